"""What may follow --data, and the sentence for everything else."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tinynas.data.open import open_data
from tinynas.errors import DataError


def test_nothing_given_means_digits():
    assert open_data(None).info == open_data("digits").info


def test_a_folder_is_opened_with_the_cache_given(tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "data" / "train" / label).mkdir(parents=True)
        for n in range(5):
            Image.new("L", (4, 4), n).save(tmp_path / "data" / "train" / label / f"{n}.png")
    source = open_data(str(tmp_path / "data"), cache_dir=tmp_path / "cache")
    dataset = source.load(4)
    assert source.info.name == "data"
    assert len(list((tmp_path / "cache").iterdir())) == 3
    assert np.array_equal(np.unique(dataset.train.labels), [0, 1])


def test_the_home_folder_is_understood(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=f"{tmp_path}/data has no folder train/"):
        open_data("~/data")


def test_an_unknown_home_folder_is_one_sentence():
    with pytest.raises(DataError, match="home folder in '~nobody-of-this-name/x' is not known"):
        open_data("~nobody-of-this-name/x")


def test_an_unknown_name_is_told_what_is_accepted():
    with pytest.raises(DataError) as error:
        open_data("imagenet")
    assert str(error.value) == (
        "there is no data set and no folder 'imagenet': give digits, cifar10:FOLDER, or a folder "
        "of images laid out as train/CLASS/*.jpg (and if you have them val/CLASS/ and "
        "test/CLASS/)"
    )


def test_a_file_is_told_to_be_unpacked(tmp_path):
    (tmp_path / "images.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match="images.zip is a file: unpack it if it is an archive"):
        open_data(str(tmp_path / "images.zip"))


@pytest.mark.parametrize("spec", ["cifar10", "cifar10:"])
def test_cifar10_needs_a_folder(spec):
    with pytest.raises(DataError, match="cifar10 needs the folder .*: cifar10:FOLDER"):
        open_data(spec)
