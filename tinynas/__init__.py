"""Hardware-aware neural architecture search for microcontrollers."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinynas.api import Best, SearchResult, run_search
    from tinynas.search.loop import Progress
    from tinynas.search.problem import Batch
    from tinynas.space.arch import Arch

__version__ = "0.1.0"

__all__ = [
    "Arch",
    "Batch",
    "Best",
    "Progress",
    "SearchResult",
    "__version__",
    "run_search",
]

# Where each name comes from; imported when first asked for, to keep `tinynas --help` fast.
_FROM = {
    "Arch": "tinynas.space.arch",
    "Batch": "tinynas.search.problem",
    "Best": "tinynas.api",
    "Progress": "tinynas.search.loop",
    "SearchResult": "tinynas.api",
    "run_search": "tinynas.api",
}


def __getattr__(name: str) -> object:
    if name not in _FROM:
        raise AttributeError(f"module 'tinynas' has no attribute {name!r}")
    return getattr(import_module(_FROM[name]), name)
