"""YAML files that people write: read safely, refused in one sentence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tinynas.errors import UsageError

# The loader written in C crashes on nodes nested some 100,000 deep, each of which takes one of
# these characters or a line of its own.
OPENERS, MOST_OPENERS, LONGEST_TEXT = "[{-?", 4000, 10**7


def safe_load(text: str) -> Any:
    """The plain data in a text that anyone may have written; tags that make objects are refused.

    As yaml.safe_load, but in C, ten times as fast, if possible: not every build of PyYAML can.
    """
    deep = sum(map(text.count, OPENERS)) > MOST_OPENERS or len(text) > LONGEST_TEXT
    if deep or not yaml.__with_libyaml__:
        return yaml.safe_load(text)
    loader = yaml.CSafeLoader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_mapping(path: Path, example: str, *, may_be_empty: bool = False) -> dict[str, Any]:
    """The mapping in a YAML file; that of an empty file, if it `may_be_empty`, has no keys.

    Raises UsageError for a file that cannot be read or holds something else; `example` says what
    the mapping should be of.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        # ValueError: not UTF-8, a date that does not exist, a number of thousands of digits.
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} cannot be read as YAML: {reason}") from None
    if content is None and may_be_empty:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path} must hold a mapping {example}")
    return content
