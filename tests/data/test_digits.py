"""The embedded digits: their counts, values and splits, which must never change."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tinynas.data.digits import open_digits


@pytest.fixture(scope="module")
def digits():
    return open_digits().load(8)


def splits(dataset):
    return dataset.train, dataset.val, dataset.test


def test_what_is_known_of_the_digits():
    info = open_digits().info
    assert info.name == "digits"
    assert info.labels == tuple("0123456789")
    assert (info.channels, info.native_size) == (1, 8)
    assert (info.train_count, info.val_count, info.test_count) == (1079, 359, 359)
    assert "do not depend on the seed" in info.notes[0]


def test_counts_and_shapes_are_those_announced(digits):
    counts = (digits.info.train_count, digits.info.val_count, digits.info.test_count)
    for split, count in zip(splits(digits), counts, strict=True):
        assert split.images.shape == (count, 8, 8, 1)
        assert split.images.dtype == np.uint8
        assert split.labels.shape == (count,)
        assert split.labels.dtype == np.int64


def test_every_image_is_in_exactly_one_split(digits):
    # The 1,797 images are all different, so their bytes identify them.
    found = [image.tobytes() for split in splits(digits) for image in split.images]
    expected = np.round(load_digits().images * 255 / 16).astype(np.uint8)
    assert len(set(found)) == 1797
    assert set(found) == {image.tobytes() for image in expected}


def test_labels_are_those_of_the_images(digits):
    bunch = load_digits()
    pixels = np.round(bunch.images * 255 / 16).astype(np.uint8)
    label_of = {
        image.tobytes(): int(label) for image, label in zip(pixels, bunch.target, strict=True)
    }
    for split in splits(digits):
        assert [label_of[image.tobytes()] for image in split.images] == split.labels.tolist()


def test_each_split_has_its_share_of_every_digit(digits):
    sizes = np.bincount(load_digits().target)
    for split in (digits.val, digits.test):
        assert np.array_equal(np.bincount(split.labels), np.floor(sizes * 0.2 + 0.5))


@pytest.mark.parametrize(
    ("name", "golden"),
    [
        ("train", "29bb702cdc68c32c"),
        ("val", "795373d84730e646"),
        ("test", "d92bc01f660e0e14"),
    ],
)
def test_the_order_of_labels_never_changes(digits, name, golden):
    labels = getattr(digits, name).labels.astype("<i8")
    assert sha256(labels.tobytes()).hexdigest()[:16] == golden


def test_opening_again_gives_the_same_bytes_and_fingerprint(digits):
    again = open_digits().load(8)
    assert again.info == digits.info
    for first, second in zip(splits(digits), splits(again), strict=True):
        assert np.array_equal(first.images, second.images)


def test_other_resolutions_hold_the_same_digits(digits):
    seen = []
    larger = open_digits().load(12, lambda done, total: seen.append((done, total)))
    assert larger.train.images.shape == (1079, 12, 12, 1)
    assert np.array_equal(larger.train.labels, digits.train.labels)
    assert seen == [(1797, 1797)]
