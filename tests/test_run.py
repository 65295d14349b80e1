from pathlib import Path

import pytest

from tinynas.errors import UsageError
from tinynas.run import CONFIG, RunDir


def make(path: Path) -> RunDir:
    run = RunDir(path)
    run.create()
    run.write(CONFIG, "seed: 0\n")
    run.digest = "d"
    return run


def test_a_directory_with_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty; go on with it by --resume"):
        RunDir(tmp_path).create()
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_directory_without_a_configuration_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run directory"):
        RunDir(tmp_path).open()


def test_a_file_in_place_of_the_directory_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be used as run directory"):
        RunDir(tmp_path / "file").create()


def test_two_processes_cannot_hold_one_run(tmp_path: Path) -> None:
    make(tmp_path / "run")
    with pytest.raises(UsageError, match="in use by another process"):
        RunDir(tmp_path / "run").open()


def test_a_stage_is_done_once_it_ends_under_the_same_configuration(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    assert not run.done("shrink")
    with run.stage("shrink"):
        assert not run.done("shrink")
    assert run.done("shrink") and run.seconds["shrink"] >= 0
    run.digest = "other"
    assert not run.done("shrink")


def test_a_stage_that_fails_is_not_done(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    with pytest.raises(RuntimeError), run.stage("shrink"):
        raise RuntimeError
    assert not run.done("shrink")


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    run.write("a.txt", "old")

    def fail(path: Path) -> None:
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run.write_with("a.txt", fail)
    assert run.file("a.txt").read_text() == "old"


def test_a_damaged_json_file_is_one_sentence(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    run.write("7_verify.json", "{")
    with pytest.raises(UsageError, match="delete it and resume"):
        run.read_json("7_verify.json")


def test_a_discarded_run_frees_its_name(tmp_path: Path) -> None:
    run = make(tmp_path / "run")
    run.discard()
    assert not (tmp_path / "run").exists()
