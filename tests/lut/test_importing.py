"""What an import makes of a user's tables, and what answers afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from latency_tables import model, write_models
from profiled_model import (
    ADDED,
    DENSE,
    MODEL,
    POINTWISE,
    STEM,
    TICKS,
    as_csv,
    board_in,
    describe_board,
)

from tinynas.cost.device import read_device
from tinynas.cost.latency import Timer, find_timer
from tinynas.cost.latency_table import Table, read_table
from tinynas.cost.op_shape import OpShape
from tinynas.cost.tflite_reader import read_tflite
from tinynas.errors import UsageError
from tinynas.lut.board import find_board
from tinynas.lut.importing import Imported, add_to_table, write_table
from tinynas.lut.measured import Measured, read_log
from tinynas.lut.nonnegative import cost

UNSEEN = OpShape("ADD", 40, 40, 16, 40, 40, 16)


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """A folder of the user's with my_board, whose core has a table."""
    return describe_board(tmp_path / "devices")


def measured(cycles: dict[OpShape, float], source: str = "log.csv") -> Measured:
    return Measured(cycles=cycles, source=source, notes=())


def imported(cycles: dict[OpShape, float], devices: Path, source: str = "log.csv") -> Imported:
    found = add_to_table(measured(cycles, source), board_in(devices), devices, devices)
    assert list(write_table(found.table, devices))[0] == devices / "tables" / "my_board.csv"
    return found


def own(devices: Path) -> Table:
    return read_table(devices / "tables", "my_board")


def timer(devices: Path) -> Timer:
    return find_timer(board_in(devices).device, "tflm", devices=devices)


def test_a_profile_makes_a_table_that_answers(devices: Path, tmp_path: Path) -> None:
    graph = read_tflite(MODEL).graph
    before = timer(devices)
    assert before.graph(graph).provenance == "estimated"
    (tmp_path / "log.txt").write_text(as_csv())
    (tmp_path / "model.tflite").write_bytes(MODEL)
    found = read_log(tmp_path / "log.txt", board_in(devices), model=tmp_path / "model.tflite")
    write = add_to_table(found, board_in(devices), devices, devices)
    assert list(write_table(write.table, devices))
    after = timer(devices)
    latency = after.graph(graph)
    assert latency.ms == pytest.approx(sum(TICKS) / 64e3)
    assert latency.shares["measured"].operators == 1
    assert after.known.provenance == "calibrated"
    assert after.known.spread < before.known.spread
    cycles, provenance = after.cycles(UNSEEN)
    assert provenance == "calibrated"
    assert cycles == pytest.approx(
        before.cycles(UNSEEN)[0] * 6000 / before.cycles(ADDED)[0], rel=0.5
    )
    assert (
        own(devices)
        .models[("tflm", "any")]
        .source.startswith(
            "imported: log.txt of model.tflite; costs of tflm of core-cortex-m99 times "
        )
    )


def test_importing_twice_is_importing_once(devices: Path) -> None:
    imported({STEM: 90_000, ADDED: 6000}, devices)
    first = [path.read_bytes() for path in sorted((devices / "tables").iterdir())]
    imported({STEM: 90_000, ADDED: 6000}, devices)
    assert [path.read_bytes() for path in sorted((devices / "tables").iterdir())] == first


def test_a_second_log_wins_where_both_have_an_operator_and_adds_the_rest(devices: Path) -> None:
    imported({STEM: 90_000, ADDED: 6000}, devices, "old.csv")
    both = imported({ADDED: 7000, DENSE: 12_000}, devices, "new.csv")
    entries = own(devices).entries[("tflm", "any")]
    assert {s: (e.cycles, e.source, e.provenance) for s, e in entries.items()} == {
        STEM: (90_000, "old.csv", "measured"),
        ADDED: (7000, "new.csv", "measured"),
        DENSE: (12_000, "new.csv", "measured"),
    }
    assert both.refined is not None and both.refined.rows == 3
    at_once = describe_board(devices / "at_once")
    other = imported({STEM: 90_000, ADDED: 7000, DENSE: 12_000}, at_once)
    assert other.refined is not None
    assert other.refined.model.cycles == both.refined.model.cycles


def test_an_import_starts_from_the_users_own_model(devices: Path) -> None:
    write_models(devices, "my_board", model("tflm", "2.0", scale=3.0))
    found = imported({ADDED: 1000}, devices)
    assert found.base is not None and found.base.words() == "tflm 2.0 of my_board"
    assert list(own(devices).models) == [("tflm", "any"), ("tflm", "2.0")]
    assert timer(devices).known.model.version == "any"
    again = imported({DENSE: 1000}, devices)
    assert again.base == found.base


def test_a_model_that_no_import_made_is_not_replaced(devices: Path) -> None:
    write_models(devices, "my_board", model("tflm", "any"))
    with pytest.raises(UsageError, match="no import made and this one would replace"):
        imported({ADDED: 1000}, devices)


def test_a_shipped_chip_is_refined_in_the_users_folder(tmp_path: Path) -> None:
    board = find_board("STM32F746", None, None, None)
    assert (board.runtime, board.clock_hz) == ("tflm-cmsis-nn", 216e6)
    shipped = find_timer(board.device, board.runtime)
    shape = OpShape("CONV_2D", 40, 40, 16, 40, 40, 24, padding="same")
    cycles = {shape: 2 * cost(shipped.known.model.cycles, shape)}
    found = add_to_table(measured(cycles), board, tmp_path / "mine")
    assert list(write_table(found.table, tmp_path / "mine"))
    own_timer = find_timer(board.device, board.runtime, devices=tmp_path / "mine")
    assert own_timer.cycles(shape) == (pytest.approx(cycles[shape]), "measured")
    other = OpShape("CONV_2D", 20, 20, 32, 20, 20, 32, padding="same")
    assert own_timer.cycles(other)[0] == pytest.approx(
        2 * cost(shipped.known.model.cycles, other), rel=1e-3
    )


def test_without_a_model_to_begin_with_the_entries_are_all_there_is(tmp_path: Path) -> None:
    devices = describe_board(tmp_path / "devices", with_core=False)
    found = imported({STEM: 90_000, POINTWISE: 22_000}, devices)
    assert found.base is None and found.refined is None
    assert timer(devices).cycles(STEM) == (90_000, "measured")
    with pytest.raises(ValueError, match="CONV_2D.*is not known for tflm of my_board"):
        timer(devices).cycles(OpShape("CONV_2D", 9, 9, 4, 9, 9, 4, padding="same"))
    write_models(devices, "core-cortex-m99", model("tflm"))
    again = imported({ADDED: 6000}, devices)
    assert again.refined is not None and again.refined.rows == 3
    assert timer(devices).cycles(UNSEEN)[1] == "calibrated"


def test_operators_that_the_model_does_not_know_are_entries(devices: Path) -> None:
    odd = OpShape("CUSTOM:mine", 1, 1, 8, 1, 1, 8)
    found = imported({odd: 500}, devices)
    assert found.base is not None and found.refined is None
    assert own(devices).models == {}
    assert timer(devices).cycles(odd) == (500, "measured")
    assert timer(devices).cycles(UNSEEN)[1] == "estimated"


def test_a_board_without_a_device_file_is_told_what_to_write(tmp_path: Path) -> None:
    folder = tmp_path / "devices"
    with pytest.raises(UsageError) as error:
        find_board("Other_Board", "tflm", 80e6, folder if folder.is_dir() else None)
    sentence, _, example = str(error.value).partition("\n")
    assert "write devices/other_board.yaml, with your own figures in" in sentence
    assert yaml.safe_load(example)["clock_hz"]["value"] == 80_000_000
    folder.mkdir()
    (folder / "other_board.yaml").write_text(example)
    assert read_device(folder / "other_board.yaml").default_runtime == "tflm"
    board = find_board("Other_Board", None, None, folder)
    assert (board.device.name, board.clock_hz) == ("other_board", 80e6)


@pytest.mark.parametrize("name", ["my board", "../my_board", "", "a/b", "-x"])
def test_a_name_that_is_none_is_refused(name: str, devices: Path) -> None:
    with pytest.raises(UsageError, match="is no name: it must be of small letters"):
        find_board(name, None, None, devices)


def test_a_runtime_that_the_device_file_does_not_have_is_refused(devices: Path) -> None:
    with pytest.raises(UsageError, match="'tflm-cmsis-nn' is not known on my_board; known: tflm"):
        find_board("my_board", "tflm-cmsis-nn", None, devices)


def test_a_table_that_cannot_be_written_is_refused(devices: Path) -> None:
    found = add_to_table(measured({ADDED: 1000}), board_in(devices), devices, devices)
    (devices / "file").write_text("")
    with pytest.raises(UsageError, match="my_board.csv cannot be written"):
        list(write_table(found.table, devices / "file"))
