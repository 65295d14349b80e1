"""What MicroProfiler prints is read back, whatever is printed around it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from profiled_model import KINDS, TICKS, as_csv, as_log, as_sums

from tinynas.lut.profiler_log import Event, ProfilerLog, read_profiler_log

CONV, ADD = ("CONV_2D", 5120, 5), ("ADD", 1280, 1)
TICKS_AND_MS = "CONV_2D took 5120 ticks (5 ms).\nADD took 1280 ticks (1 ms).\n"
TICKS_ONLY = '"Event","Tag","Ticks"\n0,CONV_2D,5120\n1,ADD,1280\n'
GARBAGE = (
    "",
    "*** Booting Zephyr OS build v3.7.0 ***",
    "temperature, 21.5",
    "Invoke done: 1234567 us",
    "12:34:56.789 watchdog fed",
    "\x1b[0;32mI (312) main: starting\x1b[0m",
    "CONV_2D took a while",
    "7,CONV_2D",
    "{}[]:,'\"",
)


def events(log: ProfilerLog) -> list[tuple[str, int, float | None]]:
    return [(e.tag, e.ticks, e.ms) for block in log.blocks for e in block]


@pytest.mark.parametrize(
    "text",
    [
        TICKS_AND_MS,
        "CONV_2D took 5.0 ms (5120 ticks)\nADD took 1.0 ms (1280 ticks)\n",
        '"Event","Tag","Ticks","ms"\n0,CONV_2D,5120,5\n1,ADD,1280,1\n',
        '"Event","Tag","Ms","Ticks"\n0,CONV_2D,5,5120\n1,ADD,1,1280\n',
        "0,CONV_2D,5120,5\n1,ADD,1280,1\n",
        TICKS_AND_MS.replace("\n", "\r\n"),
        "".join(f"[00:00:01.234,567] <inf> tflm: {line}\n" for line in TICKS_AND_MS.splitlines()),
        "".join(f"\x1b[0;32m{line}\x1b[0m\n" for line in TICKS_AND_MS.splitlines()),
        TICKS_AND_MS.rstrip("\n"),
    ],
)
def test_events_with_milliseconds_are_read(text: str) -> None:
    log = read_profiler_log(text)
    assert events(log) == [CONV, ADD]
    assert (log.totals, log.skipped) == ((), 0)


@pytest.mark.parametrize(
    "text",
    [
        TICKS_ONLY,
        "CONV_2D took 5120 cycles\n\nADD took 1280 cycles\n\n",
        "Event, Tag, Ticks\n 0, CONV_2D, 5120\n 1, ADD, 1280\n",
        "".join(f"1234, INFO, {line}\n" for line in TICKS_ONLY.splitlines()),
        "CONV_2D took 80 us (5120 cycles).\nADD took 20 us (1280 cycles).\n",
        '"Event","Tag","uSeconds","Est MACs","cycles","cpi"\n0,CONV_2D,80,0,5120,1.5\n'
        "1,ADD,20,0,1280,1.2\n",
        "CONV_2D took 5120 ticks (-1 ms).\nADD took 1280 ticks (4294967295 ms).\n",
    ],
)
def test_events_without_milliseconds_are_read(text: str) -> None:
    log = read_profiler_log(text)
    assert events(log) == [(*CONV[:2], None), (*ADD[:2], None)]
    assert not any(e.microseconds for block in log.blocks for e in block)


@pytest.mark.parametrize(
    "text",
    [
        "CONV_2D took 5120 microseconds.\nADD took 1280 microseconds.\n",
        '"Event","Tag","microseconds"\n0,CONV_2D,5120\n1,ADD,1280\n',
    ],
)
def test_microseconds_are_told_from_ticks(text: str) -> None:
    (block,) = read_profiler_log(text).blocks
    assert [(e.tag, e.ticks) for e in block] == [CONV[:2], ADD[:2]]
    assert all(e.microseconds for e in block)


def test_microseconds_after_the_point_are_not_filled_up_with_zeros() -> None:
    assert events(read_profiler_log("ADD took 3.7 ms (192448 ticks)")) == [("ADD", 192448, 3.007)]


def test_a_counter_that_ran_over_prints_negative_ticks() -> None:
    assert events(read_profiler_log("ADD took -4294966016 ticks (0 ms).")) == [("ADD", 1280, 0)]
    assert events(read_profiler_log("0,ADD,-4294966016")) == [("ADD", 1280, None)]


def test_each_header_begins_a_block_and_each_event_keeps_its_number() -> None:
    first, second = read_profiler_log(TICKS_ONLY * 2).blocks
    assert first == second
    assert [event.number for event in first] == [0, 1]


@pytest.mark.parametrize(
    "text",
    [
        '"Unique Tag","Total ticks across all events with that tag."\n'
        'CONV_2D, 5120\nADD, 1280\n"total number of ticks", 6400\n',
        '"Unique Ops in the Graph","Total Ticks (all instances of the Op)"\n'
        "CONV_2D, 5120\nADD, 1280\ntotal number of ticks, 6400\n",
        '"Tag","Total ms","Total ticks"\nCONV_2D, 5, 5120\nADD, 1, 1280\n',
    ],
)
def test_sums_by_kind_are_kept_apart_and_the_first_print_counts(text: str) -> None:
    log = read_profiler_log(text + text.replace("1280", "2560"))
    assert [(e.tag, e.ticks) for e in log.totals] == [CONV[:2], ADD[:2]]
    assert (log.blocks, log.skipped) == ((), 0)


def test_events_after_sums_are_events() -> None:
    log = read_profiler_log(as_sums() + as_csv() + as_sums() + as_log())
    assert len(log.totals) == 4
    assert [len(block) for block in log.blocks] == [6, 6]


@given(
    st.lists(
        st.tuples(st.sampled_from([*KINDS, "ethos-u"]), st.integers(0, 2**31 - 1)), max_size=9
    ),
    st.data(),
)
def test_garbage_lines_are_skipped_and_counted(
    printed: list[tuple[str, int]], data: st.DataObject
) -> None:
    for text in (as_log, as_csv):
        lines = text([n for _, n in printed], [kind for kind, _ in printed]).splitlines()
        garbage = data.draw(st.lists(st.sampled_from(GARBAGE), max_size=5))
        for line in garbage:
            lines.insert(data.draw(st.integers(0, len(lines))), line)
        log = read_profiler_log("\n".join(lines))
        assert [event[:2] for event in events(log)] == printed
        assert log.skipped == sum(line != "" for line in garbage)


@given(st.text() | st.from_regex(r"(\d+,[A-Z_]+,-?\d+(,\d+)?\n|[A-Z]+ took [\d.]+ \w+\n)*"))
def test_any_text_is_read_without_an_error(text: str) -> None:
    log = read_profiler_log(text)
    assert all(isinstance(e, Event) and e.ticks >= 0 for block in log.blocks for e in block)


def test_a_line_without_an_end_is_read_fast() -> None:
    assert read_profiler_log("A-" * 10**6 + "1, A" * 10**6).skipped == 1


def test_logs_made_for_these_tests_are_in_the_documented_form() -> None:
    assert events(read_profiler_log(as_log())) == [
        (kind, ticks, ticks // 64_000) for kind, ticks in zip(KINDS, TICKS, strict=True)
    ]
