"""What the terminal shows."""

import pytest

from tinynas.console import count_text


@pytest.mark.parametrize(
    ("subnets", "text"),
    [(1, "1"), (4000, "4,000"), (999_999, "999,999"), (1e6, "1e+06"), (2.6587e16, "2.66e+16")],
)
def test_few_subnets_are_counted_in_full(subnets: float, text: str) -> None:
    assert count_text(subnets) == text
