"""YAML files that people write: read safely, refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tinynas.errors import UsageError


def read_mapping(path: Path, example: str, *, may_be_empty: bool = False) -> dict[str, Any]:
    """The mapping in a YAML file; that of an empty file, if it `may_be_empty`, has no keys.

    Raises UsageError for a file that cannot be read or holds something else; `example` says what
    the mapping should be of.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        # ValueError: not UTF-8, a date that does not exist, a number of thousands of digits.
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} cannot be read as YAML: {reason}") from None
    if content is None and may_be_empty:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold a mapping {example}")
    return content
