"""What README shows of Python is what happens: its snippets run as typed and print that."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
FROM_PYTHON = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", re.DOTALL)
# Snippets that need more than the checkout are left to others: see test_main_job for `run=`.
SNIPPETS = [found for found in FROM_PYTHON.findall(README.read_text()) if "runs/" not in found[0]]


def test_the_readme_has_snippets() -> None:
    assert len(SNIPPETS) == 2


@pytest.mark.parametrize(("snippet", "printed"), SNIPPETS, ids=range(len(SNIPPETS)))
def test_a_snippet_runs_as_typed_and_prints_what_stands_below(
    snippet: str, printed: str, tmp_path: Path
) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, timeout=280
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == printed
