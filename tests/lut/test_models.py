from __future__ import annotations

from dataclasses import replace

import pytest

from tinynas.cost.latency_features import FEATURES
from tinynas.lut.architectures import architecture_groups, shared_work
from tinynas.lut.evidence import op_shapes
from tinynas.lut.models import (
    CMSIS_NN,
    EXTERNAL_MEMORY,
    REFERENCE,
    Cell,
    baseline_cycles,
    cell_of,
    fit,
    flat_cycles,
    is_fitted,
    known_rows,
    levels,
    macs_of,
    model_sample,
    predicted_cycles,
    row_groups,
)
from tinynas.lut.nonnegative import cost
from tinynas.lut.parts import PARTS, base, part_costs

H743 = Cell("Cortex-M7", "stm32h743", "tflm-cmsis-nn", "011bf32")


def test_variants_of_one_network_are_one_architecture() -> None:
    groups = row_groups()
    one = "st_flowers_mobilenet_v1_0.25_224_321520"
    assert groups[one] == groups["st_flowers_mobilenet_v1_0.25_224_fft_cc7c02"]
    assert groups[one] == groups["std_mbv1_0.25_224_c1000"]  # other classes
    assert groups[one] != groups["st_flowers_mobilenet_v1_0.25_96_f39259"]  # other resolution
    assert groups["mlperf_ic_resnet8"] == groups["st_cifar10_resnet_v1_8_32_b94035"]


def test_groups_hold_every_list_once() -> None:
    names = ["mlperf_ic_resnet8", "mcunet-in1", "st_cifar10_resnet_v1_8_32_b94035"]
    groups = architecture_groups(names)
    assert sorted(groups) == sorted(names)
    assert len(set(groups.values())) == 2
    assert shared_work("mcunet-in1", "mcunet-in1") == 1.0


def test_rows_that_did_not_run_as_listed_are_in_no_fit() -> None:
    fitted = [row for row in known_rows() if is_fitted(row)]
    assert all("A*" not in row.trust and row.dtype.startswith("int8") for row in fitted)
    assert not {row.id for row in fitted} & set(EXTERNAL_MEMORY)


def test_parts_sum_up_to_the_instructions() -> None:
    name = "mlperf_kws_dscnn"
    parts = dict(zip(PARTS, part_costs(name, CMSIS_NN, False), strict=True))
    operators = sum(cost(base(CMSIS_NN, False), shape) for shape in op_shapes(name))
    assert sum(parts.values()) - parts["inference"] == pytest.approx(operators)
    assert operators == pytest.approx(7_699_194, rel=0.01)  # counted in the emulator


def test_flat_coefficients_predict_what_the_fit_does() -> None:
    rows = [row for row in known_rows() if row.mcu == "stm32h743"]
    deviations = fit(rows)
    for row in rows:
        cycles, per_inference = flat_cycles(deviations, cell_of(row))
        flat = sum(cost(cycles, shape) for shape in op_shapes(row.architecture)) + per_inference
        assert flat == pytest.approx(predicted_cycles(deviations, row), rel=1e-9)
        assert all(x >= 0 for known in cycles.values() for x in known.values())
        assert all(set(known) <= set(FEATURES[group]) for group, known in cycles.items())


def test_rows_made_from_a_fit_are_predicted_by_a_fit_to_them() -> None:
    """Latencies of a machine whose cycles are twice the instructions."""
    rows = [row for row in known_rows() if is_fitted(row) and row.core == "Cortex-M4F"]
    made = [
        replace(row, latency_ms=2e3 * sum(model_sample(row).costs) / row.clock_hz, step_ms=1e-6)
        for row in rows
        if not cell_of(row).own_kernels
    ]
    deviations = fit(made)
    errors = [abs(predicted_cycles(deviations, row) / row.cycles - 1) for row in made]
    assert max(errors) < 0.05


def test_the_baseline_is_cycles_per_mac_of_the_other_networks() -> None:
    rows = [row for row in known_rows() if cell_of(row) == H743]
    one, *others = rows
    rates = [row.cycles / macs_of(row.architecture) for row in others]
    found = baseline_cycles(one, others)
    assert found is not None
    assert min(rates) <= found / macs_of(one.architecture) <= max(rates)
    assert baseline_cycles(one, []) is None


def test_engines_and_reference_kernels_start_from_their_instructions() -> None:
    assert Cell("Cortex-M7", "x", "tflm", "1").build == REFERENCE
    assert Cell("Renesas RXv2", "rx65n", "eon", "1").is_reference
    assert not Cell("Cortex-M4F", "x", "eon", "1").is_reference
    assert Cell("Cortex-M0+", "x", "tflm-cmsis-nn", "1").build == "cortex-m0plus-cmsisnn"
    assert Cell("Cortex-M7", "x", "stedgeai", "4.0.0").engine == "x-cube-ai"
    assert Cell("Cortex-M4F", "x", "microtvm", "mlperf-1.0-octoml-native").own_kernels
    assert not Cell("Cortex-M4F", "x", "microtvm", "mlperf-1.0-octoml-cmsis-nn").own_kernels


def test_a_core_has_no_level_of_a_chip() -> None:
    names = {name[1] for name, _ in levels(replace(H743, mcu=""), "add")}
    assert not names & {"chip", "chip engine", "cell"}
    assert "chip" in {name[1] for name, _ in levels(H743, "add")}
