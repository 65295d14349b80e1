import pytest

from tinynas.cost.device import Power
from tinynas.cost.energy import Energy, energy_of
from tinynas.cost.latency import Latency

LATENCY = Latency(ms=100.0, low_ms=80.0, high_ms=125.0, shares={})


def test_energy_is_power_times_latency_and_as_unsure_as_both() -> None:
    energy = energy_of(LATENCY, Power(value=40.0, low=30.0, high=50.0, source="a meter"))
    assert energy == Energy(
        mj=pytest.approx(4.0), low_mj=pytest.approx(2.4), high_mj=pytest.approx(6.25)
    )


def test_a_power_without_ends_is_taken_as_it_is() -> None:
    energy = energy_of(LATENCY, Power(value=40.0, source="a meter"))
    assert (energy.low_mj, energy.high_mj) == pytest.approx((3.2, 5.0))
