"""Events of a log matched with the operators of the profiled model, or refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiled_model import KINDS, MODEL, TICKS, as_csv, as_log, as_sums

from tinynas.cost.tflite_reader import read_tflite
from tinynas.graph import Graph
from tinynas.lut.profiled import Profiled, cycles_per_tick, match
from tinynas.lut.profiler_log import Event, read_profiler_log

GRAPH = read_tflite(MODEL).graph
LINES = as_log().splitlines(keepends=True)


def matched(text: str, graph: Graph = GRAPH) -> Profiled:
    return match(read_profiler_log(text), graph)


def ticks(found: Profiled) -> tuple[float, ...]:
    assert [op for op, _ in found.ticks] == list(GRAPH.ops)
    return tuple(count for _, count in found.ticks)


def scaled(factor: float) -> list[int]:
    return [round(count * factor) for count in TICKS]


@pytest.mark.parametrize("text", [as_log(), as_csv()])
def test_one_inference(text: str) -> None:
    found = matched(text)
    assert ticks(found) == TICKS
    assert found.note == "1 inference of 6 operators"


@pytest.mark.parametrize("printed", [as_log, as_csv])
def test_of_several_inferences_each_operator_has_its_median(printed: type[str]) -> None:
    runs = [*([scaled(1.5)]), scaled(1.01), list(TICKS)]
    found = matched("".join(map(printed, runs)))
    assert ticks(found) == tuple(scaled(1.01))
    assert found.note == "3 inferences of 6 operators"


def test_inferences_that_were_printed_at_once_are_told_apart() -> None:
    again = as_csv([*TICKS, *scaled(1.02)], KINDS * 2)
    assert ticks(matched(again)) == tuple(scaled(1.01))


def test_events_of_the_program_are_left_out() -> None:
    kinds, counts = ["Setup", *KINDS, "Print"], [7, *TICKS, 9]
    found = matched("booting\n" + as_csv(counts, kinds))
    assert ticks(found) == TICKS
    assert found.note == "1 inference of 6 operators; 3 other lines skipped"


@pytest.mark.parametrize("head", range(6))
@pytest.mark.parametrize("tail", range(6))
def test_what_is_cut_off_at_either_end_is_left_out(head: int, tail: int) -> None:
    lines = [*LINES[6 - head :], *LINES, *LINES[:tail]]
    found = matched("".join(lines))
    assert ticks(found) == TICKS
    left = head + tail
    assert len(found.events) == 6
    assert ("no whole inference" in found.note) == (left > 0)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (as_csv(TICKS[:5], KINDS[:5]), "it has 5 events of operators, the model 6 operators"),
        (as_csv([*TICKS, 9], [*KINDS, "TANH"]), "event 6 is TANH, but the model's operator 0 is"),
        (as_log(TICKS, [*KINDS[:2], "ADD", *KINDS[3:]]), "event 2 is ADD, but the model's"),
        ("Boot took 5 ticks (0 ms).", "it has 0 events of operators"),
        (as_log() + as_log(scaled(3)), "they take 155,000 ticks in one place and 465,000 in"),
        (as_csv([*TICKS, *scaled(2.6)], KINDS * 2), "they take"),
        (as_sums(TICKS[:5], KINDS[:5]), "only the model has SOFTMAX"),
        (as_sums([*TICKS, 9], [*KINDS, "TANH"]), "only the log has TANH"),
    ],
)
def test_a_log_of_another_model_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match="the log is of another model: ") as error:
        matched(text)
    assert complaint in str(error.value) and "\n" not in str(error.value)


def test_a_longer_model_of_one_kind_is_refused() -> None:
    convs = replace(GRAPH, ops=GRAPH.ops[:3])
    assert [count for _, count in matched(as_log(TICKS[:3], KINDS[:3]), convs).ticks] == [
        *TICKS[:3]
    ]
    for count in (1, 2, 4, 5, 7, 8):
        with pytest.raises(ValueError, match="another model"):
            matched(as_log([5000] * count, ["CONV_2D"] * count), convs)


def test_another_inference_of_another_model_is_left_out() -> None:
    found = matched(as_csv([5] * 2, ["ADD", "TANH"]) + as_csv())
    assert ticks(found) == TICKS
    assert found.note == "1 inference of 6 operators; 2 events of no whole inference left out"


def test_a_custom_operator_has_its_own_name() -> None:
    custom = replace(GRAPH.ops[5], kind="CUSTOM:ethos-u")
    graph = replace(GRAPH, ops=(*GRAPH.ops[:5], custom))
    found = matched(as_log(TICKS, [*KINDS[:5], "ethos-u"]), graph)
    assert found.ticks[5] == (custom, TICKS[5])


def test_a_model_without_operators_is_refused() -> None:
    with pytest.raises(ValueError, match="no operators"):
        matched(as_log(), replace(GRAPH, ops=()))


def test_of_sums_only_operators_of_one_configuration_can_be_told_apart() -> None:
    found = matched(as_sums())
    assert [(op.kind, count) for op, count in found.ticks] == list(zip(KINDS, TICKS, strict=True))[
        3:
    ]
    assert found.note == (
        "sums by kind, taken to be of one inference; those of CONV_2D cannot be told apart"
    )
    alike = replace(GRAPH, ops=GRAPH.ops[1:3])
    text = as_sums([21_000, 23_000], ["CONV_2D"] * 2)
    assert [count for _, count in matched(text, alike).ticks] == [22_000] * 2
    with pytest.raises(ValueError, match="cannot be told apart; print the events with LogCsv"):
        matched(as_sums(TICKS[:3], KINDS[:3]), replace(GRAPH, ops=GRAPH.ops[:3]))


@given(st.lists(st.sampled_from([*KINDS, "TANH"]), max_size=20), st.booleans())
def test_whatever_ran_it_is_matched_in_order_or_refused(kinds: list[str], csv: bool) -> None:
    text = (as_csv if csv else as_log)([1000] * len(kinds), kinds)
    try:
        found = matched(text)
    except ValueError as error:
        assert "\n" not in str(error)
    else:
        assert ticks(found) == (1000,) * 6
        # The operators of the model are somewhere in what ran, one after the other.
        assert " ".join(KINDS) in " ".join(kinds)


EVENT = Event(tag="ADD", ticks=6400)


def test_ticks_are_cycles_unless_something_else_is_known() -> None:
    assert cycles_per_tick([EVENT], 64e6, None) == 1
    assert cycles_per_tick([EVENT], 64e6, 1e6) == 64
    assert cycles_per_tick([replace(EVENT, microseconds=True)], 64e6, None) == 64
    with pytest.raises(ValueError, match="ticks in some lines and microseconds in others"):
        cycles_per_tick([EVENT, replace(EVENT, microseconds=True)], 64e6, None)


def test_milliseconds_must_agree_with_the_clock() -> None:
    timed = [Event(tag="ADD", ticks=640_000, ms=10.0), Event(tag="ADD", ticks=64_000, ms=1.0)]
    assert cycles_per_tick(timed, 64e6, None) == 1
    assert cycles_per_tick(timed, 128e6, 64e6) == 2
    with pytest.raises(ValueError, match="make 5.415e.07 to 6.4e.07 ticks a second, not 8e.07"):
        cycles_per_tick(timed, 80e6, None)
    assert cycles_per_tick([Event(tag="ADD", ticks=100, ms=0.0)], 80e6, None) == 1
