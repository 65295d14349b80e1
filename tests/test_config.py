from pathlib import Path

import pytest

from tinynas.config import Config, config_from, read_config
from tinynas.errors import UsageError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return path


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    path = write(tmp_path, "target: {sram: 128k, flash: 1m}\nseed: 3\n")
    config = config_from(path, {"target": {"sram": "64k", "mcu": None}, "seed": None})
    assert (config.target.sram, config.target.flash, config.seed) == (65_536, 1_048_576, 3)
    assert config.search.algorithm == "evolution"


def test_sizes_and_times_are_read_as_people_write_them(tmp_path: Path) -> None:
    config = read_config(write(tmp_path, "target: {sram: 320KiB, flash: 524288, latency: 1.5s}"))
    assert (config.target.sram, config.target.flash) == (327_680, 524_288)
    assert config.target.latency == 1500.0


def test_an_unknown_key_is_refused_with_its_path(tmp_path: Path) -> None:
    path = write(tmp_path, "train: {epoch: 3}")
    with pytest.raises(
        UsageError, match=r"settings.yaml: train.epoch: .* did you mean 'epochs'\?"
    ):
        read_config(path)


def test_a_bad_value_is_named_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"target.sram: size '12q' is not understood"):
        read_config(write(tmp_path, "target: {sram: 12q}"))
    with pytest.raises(UsageError, match=r"seed: .*greater than or equal to 0, got -1"):
        read_config(write(tmp_path, "seed: -1"))


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\x00"])
def test_what_is_no_mapping_is_one_sentence(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"settings.yaml (cannot be read|must hold a mapping)"):
        read_config(write(tmp_path, text))


def test_a_file_of_comments_alone_changes_nothing(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, "# seed: 1\n")) == Config()


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read as YAML"):
        read_config(tmp_path / "none.yaml")


def test_a_resolved_configuration_survives_its_yaml(tmp_path: Path) -> None:
    config = Config(seed=7).resolved()
    assert config.threads
    again = read_config(write(tmp_path, config.to_yaml()))
    assert again == config and again.digest() == config.digest()


def test_the_digest_changes_with_any_setting() -> None:
    assert Config(seed=1).digest() != Config(seed=2).digest()
