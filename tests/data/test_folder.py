"""Folders of real image files: layout, pixels, fingerprint, cache, and every error's text."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinynas.data.folder import open_folder
from tinynas.errors import DataError

ORIENTATION_TAG = 0x0112


def write_image(path: Path, seed: int, size: tuple[int, int] = (6, 6), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": (3,), "L": (), "RGBA": (4,)}[mode]
    shape = (size[1], size[0], *channels)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def make_folder(
    root: Path, splits: tuple[str, ...] = ("train",), each: int = 10, mode: str = "RGB"
) -> Path:
    """Two classes in every split; all images differ."""
    seed = 0
    for split in splits:
        for label in ("cat", "dog"):
            for n in range(each):
                seed += 1
                write_image(root / split / label / f"{n}.png", seed, mode=mode)
    return root


def complaint(folder: Path, resolution: int = 4) -> str:
    with pytest.raises(DataError) as error:
        open_folder(folder, None).load(resolution)
    return str(error.value)


def only_image(
    tmp_path: Path, name: str, resolution: int, save: Callable[[Path], None], others: str = "RGB"
) -> np.ndarray:
    """What loading makes of the one file of class a, `others` being the mode of class b."""
    folder = tmp_path / "data"
    for split in ("train", "val", "test"):
        write_image(folder / split / "b" / "0.png", 0, mode=others)
    (folder / "train" / "a").mkdir()
    save(folder / "train" / "a" / name)
    return open_folder(folder, None).load(resolution).train.images[0]


def test_a_split_that_exists_is_taken_as_it_is(tmp_path):
    source = open_folder(make_folder(tmp_path / "pets", ("train", "val", "test"), each=3), None)
    info = source.info
    assert (info.name, info.labels, info.notes) == ("pets", ("cat", "dog"), ())
    assert (info.train_count, info.val_count, info.test_count) == (6, 6, 6)
    dataset = source.load(6)
    for split in ("train", "val", "test"):
        found = getattr(dataset, split)
        assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
        files = [tmp_path / "pets" / split / c / f"{n}.png" for c in info.labels for n in range(3)]
        expected = np.stack([np.asarray(Image.open(file)) for file in files])
        assert np.array_equal(found.images, expected)


@pytest.mark.parametrize(
    ("splits", "counts", "noted"),
    [
        (("train",), (12, 4, 4), ["val", "test"]),
        (("train", "val"), (16, 20, 4), ["test"]),
        (("train", "test"), (16, 4, 20), ["val"]),
    ],
)
def test_a_missing_split_is_cut_from_train(tmp_path, splits, counts, noted):
    source = open_folder(make_folder(tmp_path, splits), None)
    info, dataset = source.info, source.load(6)
    assert (info.train_count, info.val_count, info.test_count) == counts
    assert [re.match("no folder (.*)/: 20 %", note)[1] for note in info.notes] == noted
    found = []
    for split, count in zip((dataset.train, dataset.val, dataset.test), counts, strict=True):
        assert np.bincount(split.labels).tolist() == [count // 2, count // 2]
        found += [image.tobytes() for image in split.images]
    assert len(set(found)) == 20 * len(splits)


def test_a_cut_split_does_not_depend_on_the_content(tmp_path):
    first = open_folder(make_folder(tmp_path / "a"), None)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    write_image(tmp_path / "b" / "train" / "cat" / "0.png", 99)
    second = open_folder(tmp_path / "b", None)
    assert first.splits["val"].names == second.splits["val"].names
    assert first.splits["test"].names == second.splits["test"].names


def test_a_class_may_be_absent_from_val_and_keeps_its_number(tmp_path):
    make_folder(tmp_path, ("train", "val", "test"), each=2)
    shutil.rmtree(tmp_path / "val" / "cat")
    assert open_folder(tmp_path, None).load(4).val.labels.tolist() == [1, 1]


def test_hidden_and_other_files_are_ignored(tmp_path):
    make_folder(tmp_path)
    expected = open_folder(tmp_path, None).info
    (tmp_path / "README.txt").write_text("about")
    (tmp_path / "train" / "labels.csv").write_text("0")
    (tmp_path / "train" / ".hidden").mkdir()
    (tmp_path / "train" / "cat" / "notes.txt").write_text("text")
    (tmp_path / "train" / "cat" / ".0.png").write_text("not an image")
    (tmp_path / "train" / "cat" / "empty").mkdir()
    assert open_folder(tmp_path, None).info == expected


def test_suffixes_count_in_either_case(tmp_path):
    make_folder(tmp_path)
    for suffix in ("JPG", "Jpeg", "bmp", "GIF", "webp", "ppm"):
        write_image(tmp_path / "train" / "cat" / f"more.{suffix}", 1)
    info = open_folder(tmp_path, None).info
    assert info.train_count + info.val_count + info.test_count == 20 + 6


def test_links_are_followed(tmp_path):
    make_folder(tmp_path / "real")
    (tmp_path / "linked" / "train").mkdir(parents=True)
    (tmp_path / "linked" / "train" / "dog").symlink_to(tmp_path / "real" / "train" / "dog")
    (tmp_path / "linked" / "train" / "cat").mkdir()
    for file in (tmp_path / "real" / "train" / "cat").iterdir():
        (tmp_path / "linked" / "train" / "cat" / file.name).symlink_to(file)
    real, linked = open_folder(tmp_path / "real", None), open_folder(tmp_path / "linked", None)
    assert real.info.fingerprint == linked.info.fingerprint
    assert np.array_equal(real.load(4).train.images, linked.load(4).train.images)


def test_the_native_size_is_the_median_of_the_shorter_sides(tmp_path):
    for n, size in enumerate([(10, 30), (30, 20), (100, 90)]):
        write_image(tmp_path / "train" / "a" / f"{n}.png", n, size)
    for split in ("train", "val", "test"):
        write_image(tmp_path / split / "b" / "0.png", 1, (20, 20))
    assert open_folder(tmp_path, None).info.native_size == 20  # of 10, 20, 20, 20, 20, 90


def test_the_fingerprint_stays_when_data_are_moved_or_touched(tmp_path):
    before = open_folder(make_folder(tmp_path / "a"), None).info.fingerprint
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    os.utime(tmp_path / "b" / "train" / "cat" / "0.png", (1, 1))
    assert open_folder(tmp_path / "b", None).info.fingerprint == before


@pytest.mark.parametrize("change", ["content", "name", "class", "split", "one less"])
def test_the_fingerprint_changes_with_the_data(tmp_path, change):
    make_folder(tmp_path, ("train", "val", "test"))
    before = open_folder(tmp_path, None).info.fingerprint
    file = tmp_path / "train" / "cat" / "0.png"
    if change == "content":
        write_image(file, 99)
    elif change == "one less":
        file.unlink()
    else:
        place = {"name": "train/cat/x.png", "class": "train/dog/x.png", "split": "val/cat/x.png"}
        file.rename(tmp_path / place[change])
    assert open_folder(tmp_path, None).info.fingerprint != before


@pytest.mark.parametrize(("suffix", "offset"), [("bmp", 200_000), ("png", 30_000), ("png", -9)])
def test_the_fingerprint_sees_a_changed_byte_of_a_large_file(tmp_path, suffix, offset):
    make_folder(tmp_path)
    file = tmp_path / "train" / "cat" / f"large.{suffix}"
    write_image(file, 5, (400, 400))
    assert file.stat().st_size > 300_000
    before = open_folder(tmp_path, None).info.fingerprint
    content = bytearray(file.read_bytes())
    content[offset] ^= 1
    file.write_bytes(content)
    assert open_folder(tmp_path, None).info.fingerprint != before


def test_grey_files_make_a_grey_data_set(tmp_path):
    source = open_folder(make_folder(tmp_path, mode="L"), None)
    assert source.info.channels == 1
    assert source.load(4).train.images.shape == (12, 4, 4, 1)


def test_one_coloured_file_makes_all_of_it_coloured(tmp_path):
    make_folder(tmp_path, ("train", "val", "test"), mode="L")
    write_image(tmp_path / "test" / "cat" / "0.png", 1)
    source = open_folder(tmp_path, None)
    images = source.load(6).train.images
    assert source.info.channels == 3
    grey = np.asarray(Image.open(tmp_path / "train" / "cat" / "0.png"))
    assert np.array_equal(images[0], np.repeat(grey[:, :, np.newaxis], 3, axis=2))


def test_the_square_is_cut_out_before_scaling(tmp_path):
    pixels = np.zeros((4, 10, 3), np.uint8)
    pixels[:, :3] = pixels[:, 7:] = 255  # outside the centre square of columns 3 to 6
    found = only_image(tmp_path, "x.png", 2, save=Image.fromarray(pixels).save)
    assert (found == 0).all()


def test_the_orientation_of_the_camera_is_honoured(tmp_path):
    # Orientation 6: the first stored column is shown as the top row (EXIF 2.3, tag 274).
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:, 0] = 255
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6

    def save(path):
        Image.fromarray(pixels).save(path, exif=exif)

    found = only_image(tmp_path, "x.png", 4, save=save)
    assert (found[0] == 255).all()
    assert (found[1:] == 0).all()


def test_transparency_is_composed_on_black(tmp_path):
    image = Image.new("RGBA", (4, 4), (200, 100, 50, 51))  # a fifth opaque
    assert only_image(tmp_path, "x.png", 4, save=image.save)[0, 0].tolist() == [40, 20, 10]


def test_transparency_of_a_palette_is_composed_on_black(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 90, 80, 70])
    image.putpixel((0, 0), 0)

    def save(path):
        image.save(path, transparency=1)

    assert (only_image(tmp_path, "x.png", 4, save=save) == 0).all()


def test_grey_with_transparency_stays_grey(tmp_path):
    image = Image.new("LA", (4, 4), (100, 51))
    found = only_image(tmp_path, "x.png", 4, save=image.save, others="L")
    assert found.shape == (4, 4, 1)
    assert (found == 20).all()


def test_a_palette_becomes_its_colours(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 90, 80, 70])
    assert only_image(tmp_path, "x.gif", 4, save=image.save)[2, 2].tolist() == [90, 80, 70]


def test_a_gif_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 255, 0))]

    def save(path):
        frames[0].save(path, save_all=True, append_images=frames[1:])

    assert only_image(tmp_path, "x.gif", 4, save=save)[2, 2].tolist() == [255, 0, 0]


def test_printing_colours_become_rgb(tmp_path):
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    red, green, blue = only_image(tmp_path, "x.jpg", 8, save=image.save)[4, 4].tolist()
    assert red > 250 and green < 5 and blue < 5


def test_black_and_white_becomes_0_and_255(tmp_path):
    image = Image.new("1", (4, 4), 1)
    image.putpixel((0, 0), 0)
    found = only_image(tmp_path, "x.png", 4, save=image.save, others="L")
    assert found[0, 0, 0] == 0
    assert found.sum() == 255 * 15


@pytest.mark.parametrize("others", ["L", "RGB"])
def test_sixteen_bits_keep_the_upper_eight(tmp_path, others):
    image = Image.fromarray(np.full((4, 4), 0xAB12, np.uint16))
    found = only_image(tmp_path, "x.png", 4, save=image.save, others=others)
    assert found.shape == (4, 4, 1 if others == "L" else 3)
    assert (found == 0xAB).all()


def test_large_images_are_decoded_by_threads_in_order(tmp_path):
    for split in ("train", "val", "test"):
        for label in range(2):
            for n in range(70):
                path = tmp_path / split / str(label) / f"{n:03}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("L", (100, 100), 100 * label + n).save(path)
    images = open_folder(tmp_path, None).load(2).train.images
    assert images[:, 0, 0, 0].tolist() == [*range(70), *range(100, 170)]


def test_a_second_load_reads_the_cache_and_not_the_files(tmp_path):
    source = open_folder(make_folder(tmp_path / "data"), tmp_path / "cache")
    first = source.load(4)
    shutil.rmtree(tmp_path / "data")
    second = source.load(4)
    for split in ("train", "val", "test"):
        assert np.array_equal(getattr(first, split).images, getattr(second, split).images)
        assert np.array_equal(getattr(first, split).labels, getattr(second, split).labels)


def test_a_truncated_cache_file_is_decoded_again(tmp_path):
    source = open_folder(make_folder(tmp_path / "data"), tmp_path / "cache")
    expected = np.array(source.load(4).train.images)
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    assert np.array_equal(source.load(4).train.images, expected)


def test_data_and_resolution_decide_the_cache_file(tmp_path):
    make_folder(tmp_path / "data")
    open_folder(tmp_path / "data", tmp_path / "cache").load(4)
    open_folder(tmp_path / "data", tmp_path / "cache").load(5)
    write_image(tmp_path / "data" / "train" / "cat" / "0.png", 99)
    open_folder(tmp_path / "data", tmp_path / "cache").load(4)
    assert len(list((tmp_path / "cache").iterdir())) == 9


def test_a_cache_that_cannot_be_written_changes_nothing(tmp_path):
    make_folder(tmp_path / "data")
    (tmp_path / "file").touch()
    without = open_folder(tmp_path / "data", None).load(4)
    blocked = open_folder(tmp_path / "data", tmp_path / "file" / "cache").load(4)
    assert np.array_equal(without.train.images, blocked.train.images)


def test_progress_counts_every_image_with_and_without_cache(tmp_path):
    source = open_folder(make_folder(tmp_path / "data"), tmp_path / "cache")
    for _ in range(2):
        seen: list[tuple[int, int]] = []
        source.load(4, lambda done, total, seen=seen: seen.append((done, total)))
        assert seen == sorted(seen)
        assert seen[-1] == (20, 20)


def test_a_folder_without_train(tmp_path):
    assert complaint(tmp_path) == (
        f"{tmp_path} has no folder train/: put the images in train/CLASS/, one folder for each "
        "class"
    )


def test_a_folder_around_the_right_one(tmp_path):
    make_folder(tmp_path / "inner")
    assert complaint(tmp_path).endswith(f"no folder train/: did you mean {tmp_path / 'inner'}?")


def test_the_original_files_of_cifar10(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert complaint(tmp_path).endswith(f"original files of CIFAR-10: give cifar10:{tmp_path}")


def test_train_without_classes(tmp_path):
    (tmp_path / "train").mkdir()
    assert complaint(tmp_path) == (
        f"{tmp_path / 'train'} has no class: at least 2 class folders are needed"
    )


def test_a_single_class(tmp_path):
    write_image(tmp_path / "train" / "cat" / "0.png", 0)
    assert "train has only the class cat: at least 2 class folders" in complaint(tmp_path)


def test_images_directly_in_train(tmp_path):
    write_image(tmp_path / "train" / "0.png", 0)
    assert complaint(tmp_path) == (
        f"{tmp_path / 'train' / '0.png'} is outside any class: images belong in train/CLASS/, "
        "one folder for each class"
    )


def test_images_below_a_folder_inside_a_class(tmp_path):
    make_folder(tmp_path)
    write_image(tmp_path / "train" / "cat" / "small" / "kittens" / "0.png", 0)
    assert complaint(tmp_path) == (
        f"{tmp_path / 'train' / 'cat' / 'small'} is a folder of images inside a class: move its "
        f"images up into {tmp_path / 'train' / 'cat'}, or make each such folder a class"
    )


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_that_train_does_not_have(tmp_path, split):
    make_folder(tmp_path, ("train", "val", "test"))
    write_image(tmp_path / split / "bird" / "0.png", 0)
    assert f"{split}/bird is a class that train/ does not have" in complaint(tmp_path)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_class_without_images(tmp_path, split):
    make_folder(tmp_path, ("train", "val", "test"))
    shutil.rmtree(tmp_path / split / "dog")
    (tmp_path / split / "dog").mkdir()
    (tmp_path / split / "dog" / "clip.mp4").touch()
    message = complaint(tmp_path)
    assert f"{split}/dog has no image (bmp, gif, jpeg, jpg, pbm, pgm, png, ppm, webp)" in message


def test_an_empty_val_folder(tmp_path):
    make_folder(tmp_path)
    (tmp_path / "val").mkdir()
    assert complaint(tmp_path) == f"{tmp_path / 'val'} has no class: fill it or delete the folder"


@pytest.mark.parametrize(
    ("splits", "missing"),
    [(("train",), "val and test"), (("train", "val"), "test"), (("train", "test"), "val")],
)
def test_too_few_images_to_cut_a_split(tmp_path, splits, missing):
    make_folder(tmp_path, splits, each=4)
    assert (
        f"train/cat has 4 image(s): at least 5 are needed to cut the missing {missing} split "
        "from it"
    ) in complaint(tmp_path)


def test_five_images_of_a_class_are_enough(tmp_path):
    info = open_folder(make_folder(tmp_path, each=5), None).info
    assert (info.train_count, info.val_count, info.test_count) == (6, 2, 2)


def broken(tmp_path: Path, content: bytes, name: str = "broken.jpg") -> str:
    make_folder(tmp_path)
    path = tmp_path / "train" / "dog" / name
    path.write_bytes(content)
    message = complaint(tmp_path)
    assert str(path) in message
    assert "\n" not in message
    return message.replace(str(path), "FILE")


def test_an_empty_file(tmp_path):
    assert broken(tmp_path, b"") == (
        "the image FILE cannot be decoded, it is empty: replace or delete it"
    )


def test_text_named_like_an_image(tmp_path):
    assert broken(tmp_path, b"<html>not found</html>") == (
        "the image FILE cannot be decoded, its content is none of JPEG, PNG, BMP, GIF, WEBP, PPM: "
        "replace or delete it"
    )


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "webp", "ppm"])
@pytest.mark.parametrize("kept", [0.05, 0.5, 0.8])
def test_a_truncated_file(tmp_path, suffix, kept):
    write_image(tmp_path / f"whole.{suffix}", 7, (60, 60))
    content = (tmp_path / f"whole.{suffix}").read_bytes()
    message = broken(tmp_path, content[: int(len(content) * kept)], f"broken.{suffix}")
    assert re.fullmatch("the image FILE cannot be decoded, .+: replace or delete it", message)


@pytest.mark.parametrize("side", [10_000, 40_000])  # where Pillow warns, and where it refuses
def test_a_decompression_bomb(tmp_path, side):
    message = broken(tmp_path, f"P4\n{side} {side}\n".encode(), "bomb.ppm")
    assert message == (
        "the image FILE cannot be decoded, it has more than 89,478,485 pixels: "
        "replace or delete it"
    )


def test_floating_point_pixels(tmp_path):
    message = broken(tmp_path, b"Pf\n1 1\n-1.0\n" + np.float32(0.5).tobytes(), "x.ppm")
    assert "cannot be decoded, its pixels are floating point numbers: replace" in message


def test_a_link_to_nothing(tmp_path):
    make_folder(tmp_path)
    path = tmp_path / "train" / "dog" / "gone.png"
    path.symlink_to(tmp_path / "nowhere.png")
    assert complaint(tmp_path) == f"the image {path} cannot be read: No such file or directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
@pytest.mark.parametrize("what", ["train/dog/0.png", "train/dog", "train", "."])
def test_missing_permission(tmp_path, what):
    make_folder(tmp_path)
    (tmp_path / what).chmod(0)
    message = complaint(tmp_path)
    (tmp_path / what).chmod(0o700)
    assert message.endswith(f" {tmp_path / what} cannot be read: Permission denied")


def test_the_first_broken_file_in_the_order_of_names_is_named(tmp_path):
    make_folder(tmp_path, ("train", "val", "test"))
    whole = (tmp_path / "train" / "cat" / "0.png").read_bytes()
    for name in ("cat/7.png", "cat/3.png", "dog/1.png"):
        (tmp_path / "train" / name).write_bytes(whole[:-30])
    assert "train/cat/3.png cannot be decoded" in complaint(tmp_path)
