from __future__ import annotations

import gzip

import pytest

from tinynas.graph import total_macs
from tinynas.lut.evidence import (
    architectures,
    emulated_models,
    emulated_rows,
    graph,
    model_rows,
    op_shapes,
    operator_rows,
    page_rows,
)
from tinynas.paths import data_dir


def test_all_rows_are_there() -> None:
    assert len(operator_rows()) == 4_710
    assert len(model_rows()) == 704
    assert len(architectures()) == 176
    assert len(emulated_rows("cortex-m4-cmsisnn")) == 3_908
    assert emulated_models("cortex-m4-cmsisnn")["mlperf_kws_dscnn"] == 7_699_194


def test_rows_have_our_names_and_units() -> None:
    row = next(row for row in model_rows() if row.id == "m0005")
    assert (row.mcu, row.core, row.runtime) == ("stm32h743", "Cortex-M7", "tflm")
    assert row.architecture == "mcunet-vww1"
    assert row.cycles == 1_120e-3 * 480e6
    assert row.step_ms == 0.5


def test_printed_digits_say_how_exact_a_latency_is() -> None:
    steps = {row.latency_ms: row.step_ms for row in model_rows() if row.latency_ms}
    assert steps[10.0516] == pytest.approx(0.00005)
    assert steps[18.03] == pytest.approx(0.005)


def test_every_layer_list_is_a_network_of_known_operators() -> None:
    for name in architectures():
        assert total_macs(graph(name)) > 0
        assert len(op_shapes(name)) == len(graph(name).ops)


def test_every_named_layer_list_is_there() -> None:
    named = {row.architecture for row in model_rows()} - {""}
    assert named <= set(architectures())


def test_files_carry_no_time() -> None:
    for path in (data_dir("latency_models") / "evidence").glob("*.gz"):
        content = path.read_bytes()
        assert content[4:8] == b"\0\0\0\0", path
        assert gzip.decompress(content)


def test_operators_of_pages_are_read_from_their_words() -> None:
    shapes = [row.shape for row in page_rows()]
    assert len(shapes) == 22
    one = next(s for s in shapes if (s.kernel_h, s.stride_w) == (7, 2))
    # dwconv7x7 s(1,2) of 20x20x25 pad2: 198,450 multiply-accumulates as the page counts them
    assert (one.kind, one.out_h, one.out_w, one.out_c) == ("DEPTHWISE_CONV_2D", 18, 9, 25)
    assert one.outputs * 7 * 7 == 198_450
