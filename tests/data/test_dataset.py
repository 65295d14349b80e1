"""Splitting, subsets and scaling, against hand-computed values and laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tinynas.data.dataset import (
    Split,
    crop_square,
    hold_out,
    make_split,
    resize,
    scale,
    take,
    to_pixels,
)

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=120).map(
    lambda values: np.array(values, np.int64)
)


def numbered_split(labels: np.ndarray) -> Split:
    """A split whose image at position n consists of n, so that images can be recognised."""
    images = np.arange(len(labels), dtype=np.uint8).reshape(-1, 1, 1, 1)
    return make_split(images, labels.copy())


@given(LABELS, st.integers(0, 2))
def test_held_out_parts_are_disjoint_and_together_everything(labels, parts):
    keys = [f"image{n}" for n in range(len(labels))]
    positions = hold_out(keys, labels, parts)
    assert len(positions) == parts + 1
    assert sorted(np.concatenate(positions).tolist()) == list(range(len(labels)))
    assert all((np.diff(part) > 0).all() for part in positions)


@given(LABELS)
def test_a_held_out_part_has_a_fifth_of_every_class(labels):
    _, held = hold_out([f"image{n}" for n in range(len(labels))], labels, 1)
    for label in np.unique(labels):
        size = int((labels == label).sum())
        assert (labels[held] == label).sum() == max(1, int(size * 0.2 + 0.5))


@given(LABELS, st.randoms(use_true_random=False))
def test_what_is_held_out_depends_on_keys_and_not_on_order(labels, random):
    keys = [f"image{n}" for n in range(len(labels))]
    order = list(range(len(labels)))
    random.shuffle(order)
    expected = [{keys[n] for n in part} for part in hold_out(keys, labels, 2)]
    shuffled = hold_out([keys[n] for n in order], labels[order], 2)
    assert [{keys[order[n]] for n in part} for part in shuffled] == expected


def test_held_out_positions_are_the_same_for_ever():
    labels = np.repeat(np.arange(2), 10)
    held = [part.tolist() for part in hold_out([str(n) for n in range(20)], labels, 2)]
    # Computed once with hashlib alone: ranks of blake2b(key, digest_size=8) within each class.
    assert held[1:] == [[2, 6, 17, 18], [0, 4, 12, 14]]


def test_an_added_image_leaves_most_of_the_split_in_place():
    keys = [str(n) for n in range(1000)]
    before = hold_out(keys[:-1], np.zeros(999, np.int64), 1)[1]
    after = hold_out(keys, np.zeros(1000, np.int64), 1)[1]
    assert len(set(before.tolist()) ^ set(after.tolist())) <= 2


@given(LABELS, st.integers(1, 130), st.integers(0, 3))
def test_a_subset_has_the_count_and_every_class_in_proportion(labels, count, seed):
    taken = take(numbered_split(labels), count, seed)
    assert len(taken.labels) == len(taken.images) == min(count, len(labels))
    for label in np.unique(labels):
        exact = (labels == label).sum() * len(taken.labels) / len(labels)
        assert abs((taken.labels == label).sum() - exact) < 1


@given(LABELS, st.integers(1, 130), st.integers(0, 3))
def test_a_subset_keeps_the_order_and_repeats_nothing(labels, count, seed):
    taken = take(numbered_split(labels), count, seed).images.ravel().astype(int)
    assert (np.diff(taken) > 0).all()


def test_a_subset_keeps_each_image_with_its_label():
    labels = np.tile(np.arange(10), 20)
    taken = take(numbered_split(labels), 50, seed=1)
    assert (taken.images.ravel() % 10 == taken.labels).all()
    assert (np.bincount(taken.labels) == 5).all()


def test_subsets_of_different_seeds_differ_and_of_one_seed_agree():
    split = numbered_split(np.zeros(200, np.int64))
    first, again, other = take(split, 20, 1), take(split, 20, 1), take(split, 20, 2)
    assert np.array_equal(first.images, again.images)
    assert not np.array_equal(first.images, other.images)


def test_the_whole_split_is_not_copied():
    split = numbered_split(np.zeros(3, np.int64))
    assert take(split, 3, 0) is split


def test_no_images_cannot_be_taken():
    with pytest.raises(ValueError, match="at least 1 image must be taken, not 0"):
        take(numbered_split(np.zeros(3, np.int64)), 0, 0)


def test_arrays_of_a_split_cannot_be_changed():
    split = numbered_split(np.zeros(3, np.int64))
    with pytest.raises(ValueError, match="read-only"):
        split.images[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        split.labels[0] = 1


def test_halving_weighs_three_or_four_pixels_by_a_triangle():
    # Scale 2 makes the triangle 4 wide: weights 3/7, 3/7, 1/7 at the edge of four pixels, so
    # (3*0 + 3*70 + 140) / 7 = 50 and (70 + 3*140 + 3*210) / 7 = 160 by hand.
    row = np.array([0, 70, 140, 210], np.uint8)
    image = np.tile(row, (4, 1))[np.newaxis, :, :, np.newaxis]
    assert resize(image, 2)[0, :, :, 0].tolist() == [[50, 160], [50, 160]]


def test_doubling_interpolates_between_neighbours():
    # Outputs lie at -1/4, 1/4, 3/4, 5/4 of the inputs 0 and 100, clamped at the edges.
    image = np.array([[0, 100], [0, 100]], np.uint8)[np.newaxis, :, :, np.newaxis]
    assert resize(image, 4)[0, 0, :, 0].tolist() == [0, 25, 75, 100]


def test_resizing_to_the_same_size_changes_nothing():
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3), dtype=np.uint8)
    assert resize(images, 5) is images


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([1, 3]), st.integers(1, 12))
def test_arrays_are_resized_exactly_as_images_are(height, width, channels, resolution):
    rng = np.random.default_rng(height * 31 + width)
    pixels = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    image = Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels)
    expected = to_pixels(scale(crop_square(image), resolution))
    assert expected.shape == (resolution, resolution, channels)
    assert np.array_equal(resize(pixels[np.newaxis], resolution)[0], expected)


@pytest.mark.parametrize(
    ("width", "height", "first", "last"),
    [(6, 2, 2, 3), (5, 2, 1, 2), (2, 6, 2, 3), (2, 5, 1, 2), (2, 2, 0, 1)],
)
def test_the_square_is_cut_from_the_centre(width, height, first, last):
    along = np.arange(max(width, height), dtype=np.uint8)
    pixels = np.tile(along, (height, 1)) if width >= height else np.tile(along[:, None], width)
    square = np.asarray(crop_square(Image.fromarray(pixels)))
    assert square.shape == (2, 2)
    assert (square.min(), square.max()) == (first, last)
