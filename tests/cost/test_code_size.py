"""Code of a firmware: what was measured, bounds that follow from it, and what falls back."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tinynas.cost.code_size import (
    CodeTable,
    Program,
    code_size,
    code_size_from,
    read_code_table,
    shipped_code_tables,
)
from tinynas.cost.device import Device, Figure, find_device, shipped_devices
from tinynas.errors import UsageError
from tinynas.paths import data_dir

FOLDER = data_dir("latency_models") / "code"
DENSE = frozenset({"FULLY_CONNECTED", "RELU"})
CLASSIFIER = DENSE | {"SOFTMAX"}
CONVOLUTIONS = CLASSIFIER | {"CONV_2D", "RESHAPE"}
CONVOLUTIONS_MEAN = CONVOLUTIONS | {"MEAN"}
POOLED = CONVOLUTIONS_MEAN | {"MAX_POOL_2D"}
DEPTHWISE = CONVOLUTIONS | {"DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D"}
RESIDUAL = CONVOLUTIONS | {"ADD", "AVERAGE_POOL_2D"}
# What the models of tinynas have.
OURS = ("CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "AVERAGE_POOL_2D", "FULLY_CONNECTED")


def table(runtime: str) -> CodeTable:
    (found,) = (table for table in shipped_code_tables() if table.runtime == runtime)
    return found


CMSIS_NN = table("tflm-cmsis-nn")
REFERENCE = table("tflm")
BOARD = find_device("stm32l4r5")


@pytest.mark.parametrize(
    ("runtime", "name", "kib", "kinds"),
    [
        # measurements of Black3rror/EdgeMark as printed, in KiB.
        ("tflm-cmsis-nn", "FC_5", 80.1484, DENSE),
        ("tflm-cmsis-nn", "FC_2", 82.3906, DENSE | {"LOGISTIC"}),
        ("tflm-cmsis-nn", "CNN_2", 120.977, CONVOLUTIONS),
        ("tflm-cmsis-nn", "CNN_7", 308.359, POOLED),
        ("tflm-cmsis-nn", "TinyMLPerf_DS_CNN", 182.016, DEPTHWISE),
        ("tflm-cmsis-nn", "TinyMLPerf_MBNet", 437.141, DEPTHWISE),
        ("tflm-cmsis-nn", "TinyMLPerf_ResNet", 228.023, RESIDUAL),
        ("tflm", "FC_10", 320.004, CLASSIFIER),
        ("tflm", "CNN_4", 162.188, CONVOLUTIONS_MEAN),
        ("tflm", "TinyMLPerf_AE", 384.121, DENSE),
    ],
)
def test_shipped_programs_are_the_published_ones(
    runtime: str, name: str, kib: float, kinds: frozenset[str]
) -> None:
    (program,) = (p for p in table(runtime).programs if p.name == name)
    assert program.kinds == kinds
    # Six digits are printed: up to 0.0005 KiB off.
    assert program.program_bytes == pytest.approx(1024 * kib, abs=0.6)


@pytest.mark.parametrize("table", [CMSIS_NN, REFERENCE], ids=lambda table: table.runtime)
@pytest.mark.parametrize(
    ("smaller", "larger", "off_bytes"),
    [("FC_5", "FC_6", 0), ("FC_7", "FC_10", 32), ("CNN_1", "CNN_4", 153), ("CNN_6", "CNN_7", 56)],
)
def test_programs_of_the_same_operators_differ_as_their_models_do(
    table: CodeTable, smaller: str, larger: str, off_bytes: int
) -> None:
    named = {program.name: program for program in table.programs}
    one, other = named[smaller], named[larger]
    assert one.kinds == other.kinds
    programs = other.program_bytes - one.program_bytes
    assert abs(programs - (other.model_bytes - one.model_bytes)) <= off_bytes


@pytest.mark.parametrize("table", [CMSIS_NN, REFERENCE], ids=lambda table: table.runtime)
def test_code_hardly_differs_between_programs_of_the_same_operators(table: CodeTable) -> None:
    by_kinds: dict[frozenset[str], list[int]] = {}
    for program in table.programs:
        by_kinds.setdefault(program.kinds, []).append(table.code_bytes(program))
    spread = max(max(sizes) - min(sizes) for sizes in by_kinds.values())
    assert spread == {"tflm-cmsis-nn": 1112, "tflm": 688}[table.runtime]
    assert f"differ by {spread:,} bytes" in table.checked


def test_measured_operators_take_what_their_largest_program_took() -> None:
    # TinyMLPerf_DS_CNN: 186,384 bytes with a model of 47,856; MBNet less: 447,632 - 310,216.
    size = code_size(DEPTHWISE, BOARD, "tflm-cmsis-nn")
    assert size.bytes == 186_384 - 47_856 == 138_528
    assert [part.bytes for part in size.parts] == [28_000, 110_528]
    assert size.source.startswith(
        "the program TinyMLPerf_DS_CNN, which has just these operators; whole programs of "
    )
    assert CMSIS_NN.checked in size.source


def test_fewer_operators_take_at_most_the_smallest_program_that_has_them() -> None:
    size = code_size(["FULLY_CONNECTED"], BOARD, "tflm-cmsis-nn")
    assert size.bytes == 353_855 - 278_056 == 75_799
    assert size.source.startswith("at most the program TinyMLPerf_AE, which also has RELU; ")


def test_operators_of_two_programs_take_at_most_both_less_what_they_share() -> None:
    # ResNet 138,056 (233,496 - 95,440), DS-CNN 138,528, and both have what CNN_2 has: 116,656.
    size = code_size(OURS, BOARD, "tflm-cmsis-nn")
    assert size.bytes == 138_056 + 138_528 - 116_656 == 159_928
    assert [part.bytes for part in size.parts] == [28_000, 110_056, 21_872]
    assert size.parts[2].what == "DEPTHWISE_CONV_2D, AVERAGE_POOL_2D once more"
    assert size.source.startswith(
        "at most the programs TinyMLPerf_ResNet, TinyMLPerf_DS_CNN together, what they share "
        "counted once, which also have RELU, RESHAPE, SOFTMAX; "
    )


def test_reference_kernels_are_those_of_another_chip_less_its_firmware() -> None:
    # RX65N: ResNet 249,732 - 95,440, DS-CNN 198,072 - 47,856, CNN_2 146,020 - 7,224.
    size = code_size(OURS, BOARD, "tflm")
    assert size.bytes == 154_292 + 150_216 - 138_796 - 39_485 == 126_227
    assert "an estimate from another instruction set" in size.source


@pytest.mark.parametrize(
    ("kinds", "kib", "model_bytes"),
    [
        # float32 and int16 builds of the same programs, not in the table.
        (DENSE, 1118.47, 1_069_612),
        (DENSE, 80.8516, 7_320),
        (CLASSIFIER, 282.227, 203_568),
        (CONVOLUTIONS, 121.680, 7_952),
        (POOLED, 313.266, 194_488),
        (DEPTHWISE, 232.031, 99_040),
        (RESIDUAL, 445.703, 318_364),
    ],
)
def test_other_builds_of_the_programs_take_as_much(
    kinds: frozenset[str], kib: float, model_bytes: int
) -> None:
    took = 1024 * kib - model_bytes
    # As far off as programs of the same operators are from each other.
    assert code_size(kinds, BOARD, "tflm-cmsis-nn").bytes == pytest.approx(took, abs=1112)


@pytest.mark.parametrize(
    ("runtime", "kinds", "kib", "model_bytes", "bound"),
    [
        # mit-han-lab/tinyengine README, STM32H743: mcunet-vww1 and mcunet-in3. Their PAD,
        # QUANTIZE, DEQUANTIZE and TRANSPOSE are in what they took, not in the bound.
        ("tflm-cmsis-nn", (*OURS[:3], "MEAN", "FULLY_CONNECTED"), 736, 613_840, 165_424),
        ("tflm-cmsis-nn", (*OURS[:4], "RESHAPE"), 1106, 1_018_208, 159_928),
        ("tflm", (*OURS[:3], "MEAN", "FULLY_CONNECTED"), 718, 613_840, 132_888),
        ("tflm", (*OURS[:4], "RESHAPE"), 1091, 1_018_208, 126_227),
    ],
)
def test_programs_of_another_project_stay_below_the_bound(
    runtime: str, kinds: tuple[str, ...], kib: int, model_bytes: int, bound: int
) -> None:
    size = code_size(kinds, find_device("stm32h743"), runtime)
    took = 1024 * kib - model_bytes
    assert size.bytes == bound
    assert took < bound < 1.41 * took
    assert f"{took:,}" in size.source and f"{bound:,}" in size.source


@pytest.mark.parametrize("table", [CMSIS_NN, REFERENCE], ids=lambda table: table.runtime)
def test_a_set_left_out_is_bounded_from_above_by_the_rest(table: CodeTable) -> None:
    more_percent = []
    for kinds in {program.kinds for program in table.programs}:
        took = max(table.code_bytes(p) for p in table.programs if p.kinds == kinds)
        rest = tuple(p for p in table.programs if p.kinds != kinds)
        if kinds <= frozenset().union(*(p.kinds for p in rest)):
            bound = code_size_from(table.model_copy(update={"programs": rest}), kinds)
            more_percent.append(100 * (bound.bytes / took - 1))
    assert len(more_percent) == 4
    assert f"say {min(more_percent):.0f} to {max(more_percent):.0f} % more" in table.checked


@pytest.mark.parametrize("name", ["rp2040", "esp32s3"])
def test_cores_without_programs_get_the_figure_of_the_device(name: str) -> None:
    device = find_device(name)
    runtime = device.default_runtime
    size = code_size(OURS, device, runtime)
    figure = device.runtime(runtime).runtime_code_bytes
    assert size.bytes == figure.value and size.parts == ()
    assert size.source == (
        f"the figure of {name} for any operators, as no programs were measured for {runtime} on "
        f"{device.core}: {figure.source}"
    )


def test_operators_without_programs_get_the_figure_of_the_device() -> None:
    for kinds in (["PAD"], ["PAD", "CONV_2D"]):
        size = code_size(kinds, BOARD, "tflm-cmsis-nn")
        assert size.bytes == 139_824 and size.parts == ()
        assert size.source.startswith(
            "the figure of stm32l4r5 for any operators, as no program was measured with PAD: "
        )


def test_operators_without_programs_never_lower_what_the_others_take() -> None:
    size = code_size([*OURS, "PAD", "TILE"], BOARD, "tflm-cmsis-nn")
    assert size.bytes == 159_928 == sum(part.bytes for part in size.parts)
    assert size.source.startswith(
        "without what is not known, as no program was measured with PAD, TILE, which is more "
        "than the 139,824 bytes of stm32l4r5 for any operators: at most the programs "
    )


def test_an_unknown_runtime_is_refused() -> None:
    with pytest.raises(UsageError, match="runtime 'tvm' is not known on stm32l4r5; known: "):
        code_size(OURS, BOARD, "tvm")


@pytest.mark.parametrize("device", shipped_devices().values(), ids=lambda device: device.name)
def test_every_shipped_device_has_a_figure_that_fits_its_flash(device: Device) -> None:
    for runtime in device.runtimes:
        size = code_size(OURS, device, runtime)
        assert 0 < size.bytes < device.flash_bytes.value and size.source


KNOWN = sorted(frozenset().union(*(program.kinds for program in CMSIS_NN.programs)))


@given(kinds=st.sets(st.sampled_from([*KNOWN, "PAD"])), more=st.sampled_from([*KNOWN, "PAD"]))
def test_more_operators_never_take_less_and_nothing_measured_is_undercut(
    kinds: set[str], more: str
) -> None:
    size = code_size(kinds, BOARD, "tflm-cmsis-nn")
    assert size.bytes <= code_size(kinds | {more}, BOARD, "tflm-cmsis-nn").bytes
    part_of_it = [CMSIS_NN.code_bytes(p) for p in CMSIS_NN.programs if p.kinds <= kinds]
    assert size.bytes >= max(part_of_it, default=0)
    assert not size.parts or sum(part.bytes for part in size.parts) == size.bytes


OPERATORS = "ABCDEF"


@st.composite
def linked_programs(
    draw: st.DrawFn,
) -> tuple[CodeTable, dict[str, int], dict[str, frozenset[str]]]:
    """Sections with sizes, the sections each operator reaches, and programs of some operators."""
    sections = {f"s{i}": draw(st.integers(1, 999)) for i in range(8)}
    reached = {o: draw(st.frozensets(st.sampled_from(sorted(sections)))) for o in OPERATORS}
    sets = draw(
        st.lists(st.frozensets(st.sampled_from(OPERATORS), min_size=1), min_size=1, max_size=6)
    )
    programs = tuple(
        Program(
            name=f"p{i}",
            kinds=kinds,
            program_bytes=1000 + linked(sections, reached, kinds) + 10 * i,
            model_bytes=10 * i or 1,
        )
        for i, kinds in enumerate(sets, 1)
    )
    empty = Figure(value=900, source="made up")
    table = CodeTable(
        runtime="r",
        cores=("c",),
        source="s",
        checked="c",
        empty_program_bytes=empty,
        programs=programs,
    )
    return table, sections, reached


def linked(
    sections: dict[str, int], reached: dict[str, frozenset[str]], kinds: frozenset[str]
) -> int:
    return sum(sections[s] for s in frozenset().union(*(reached[kind] for kind in kinds)))


@given(made=linked_programs(), data=st.data())
def test_a_linker_that_drops_what_is_not_reached_never_exceeds_the_bound(
    made: tuple[CodeTable, dict[str, int], dict[str, frozenset[str]]], data: st.DataObject
) -> None:
    table, sections, reached = made
    known = sorted(frozenset().union(*(program.kinds for program in table.programs)))
    kinds = data.draw(st.frozensets(st.sampled_from(known), min_size=1))
    truth = 1000 + linked(sections, reached, kinds)
    bound = code_size_from(table, kinds).bytes
    assert bound >= truth
    if kinds in {program.kinds for program in table.programs}:
        assert bound == truth


def test_a_table_answers_only_for_operators_of_its_programs() -> None:
    with pytest.raises(ValueError, match="no program of the table has PAD"):
        code_size_from(CMSIS_NN, ["PAD", "CONV_2D"])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_tables_are_no_devices_and_name_where_they_come_from(path: Path) -> None:
    assert path.stem not in shipped_devices()
    found = read_code_table(path)
    assert "Black3rror/EdgeMark@3e7237db2d" in found.source
    assert found.empty_program_bytes.value == 28_000


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("cores", [], "cores: Tuple should have at least 1 item after validation"),
        ("programs", [], "programs: Tuple should have at least 1 item after validation"),
        ("source", "", "source: String should have at least 1 character, got ''"),
        ("core", "Cortex-M7", "core: there is no such key; did you mean 'cores'?"),
        (
            "empty_program_bytes",
            {"value": 75_456, "source": "s"},
            "top level: program FC_5 must be larger than its model, other_firmware_bytes and "
            "empty_program_bytes together",
        ),
    ],
)
def test_a_broken_table_is_named_with_key_and_rule(
    tmp_path: Path, key: str, value: object, complaint: str
) -> None:
    shipped = FOLDER / "cortex-m_tflm-cmsis-nn.yaml"
    content = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**content, key: value}), encoding="utf-8")
    with pytest.raises(UsageError) as error:
        read_code_table(path)
    assert str(error.value).startswith(f"{path}: {complaint}")
