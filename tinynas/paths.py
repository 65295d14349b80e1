"""Where the shipped data lie."""

from pathlib import Path

_PACKAGE = Path(__file__).parent
KINDS = ("search_spaces", "latency_models")


def data_dir(kind: str) -> Path:
    """Folder of the shipped `kind`: inside the package in a wheel, beside it in a checkout."""
    if kind not in KINDS:
        raise ValueError(f"unknown data kind {kind!r}; known kinds: {', '.join(KINDS)}")
    for root in (_PACKAGE, _PACKAGE.parent):
        if (root / kind).is_dir():
            return root / kind
    raise FileNotFoundError(f"no {kind}/ in {_PACKAGE} or beside it; is the install complete?")
