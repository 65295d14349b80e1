"""Plain data checked against pydantic models, complaints as one sentence for people."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from tinynas.errors import UsageError

M = TypeVar("M", bound=BaseModel)

MAPPING, LIST = "must be a mapping, `key: value`", "must be a list, `[a, b]`"
# What pydantic says of Python's types, in the words of YAML and JSON.
RULES = {
    "model_type": MAPPING,
    "model_attributes_type": MAPPING,
    "dict_type": MAPPING,
    "tuple_type": LIST,
    "list_type": LIST,
    "missing": "is missing",
}
LONGEST = 100  # characters of a wrong value that are shown


def validated(model: type[M], content: object, where: str) -> M:
    """Content as a model.

    Raises UsageError with the first complaint, as `where: path.to.key: rule, got value`; unknown
    keys come first.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{where}: {_complaint(error, model)}") from None


def _complaint(error: ValidationError, model: type[BaseModel]) -> str:
    errors = error.errors()
    # A key that is unknown is often why another is missing.
    first = next((one for one in errors if one["type"] == "extra_forbidden"), errors[0])
    path = ".".join(str(part) for part in first["loc"]) or "top level"
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{path}: {_unknown(model, first['loc'])}{more}"
    rule = RULES.get(first["type"]) or first["msg"].removeprefix("Value error, ")
    got = "" if "got" in rule or first["type"] == "missing" else f", got {_shown(first['input'])}"
    return f"{path}: {rule}{got}{more}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."


def _unknown(model: type[BaseModel], path: Sequence[int | str]) -> str:
    """That there is no such key, and the nearest one or all that there are."""
    known = _keys(model, path[:-1])
    near = difflib.get_close_matches(str(path[-1]), known, n=1)
    if near:
        return f"there is no such key; did you mean {near[0]!r}?"
    return f"there is no such key; known: {', '.join(known)}" if known else "there is no such key"


def _keys(model: type[BaseModel], path: Sequence[int | str]) -> list[str]:
    """The keys of the models that a path leads to, through lists, mappings and alternatives."""
    models = [model]
    for part in path:
        fields = [m.model_fields[str(part)] for m in models if str(part) in m.model_fields]
        # Other parts are places in a list, or keys and alternatives without a model of their own.
        if fields:
            models = [found for field in fields for found in _models(field.annotation)]
    return [name for m in models for name in m.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """All models in an annotation, such as those of `tuple[Stage, ...] | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models(argument)]
