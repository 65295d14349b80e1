"""A model file of any kind that can be read, told apart by its content."""

from __future__ import annotations

from pathlib import Path

from tinynas.budget import format_bytes
from tinynas.cost.layer_list import read_layer_list
from tinynas.cost.tflite_reader import IDENTIFIER, ModelFile, read_tflite
from tinynas.errors import ModelFileError
from tinynas.graph import MACS, Graph

LARGEST_FILE_BYTES = 64 * 2**20  # more than the flash of any MCU
# What may stand before the first brace of a JSON text: a byte order mark and white space.
BEFORE_JSON = b"\xef\xbb\xbf \t\r\n"
SHOWN_OPERATORS = 5


def read_model(path: Path) -> ModelFile:
    """The model in a .tflite file or a layer list, whatever the file is called.

    Raises ModelFileError, with the path and a sentence on what is wrong, for anything else.
    """
    try:
        content = read_bytes(path)
        if content[4:8] == IDENTIFIER:
            return read_tflite(content)
        if content.lstrip(BEFORE_JSON)[:1] == b"{":
            return read_layer_list(content)
        raise ModelFileError(
            "this is neither a .tflite file, whose bytes 4 to 7 are 'TFL3', nor a layer list, a "
            "JSON text that starts with '{'"
        )
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None


def read_bytes(path: Path) -> bytes:
    """A regular file's bytes; ModelFileError where it cannot be read or is too large."""
    try:
        if not path.exists():
            raise ModelFileError("there is no such file")
        if not path.is_file():
            raise ModelFileError("this is not a file that can be read")
        if path.stat().st_size > LARGEST_FILE_BYTES:
            raise ModelFileError(
                f"it has {format_bytes(path.stat().st_size)}; models of at most "
                f"{format_bytes(LARGEST_FILE_BYTES)} are read"
            )
        return path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"this file cannot be read: {error.strerror}") from None


def refuse_unknown(graph: Graph) -> None:
    """ModelFileError that names the operators whose costs are not known, if there are any.

    They are those of kinds that tinynas.graph.MACS does not have.
    """
    unknown = [op.name for op in graph.ops if op.kind not in MACS]
    if unknown:
        more = len(unknown) - SHOWN_OPERATORS
        shown = ", ".join(unknown[:SHOWN_OPERATORS]) + (f" and {more} more" if more > 0 else "")
        raise ModelFileError(
            f"the costs of these operators are not known: {shown}; known kinds are "
            f"{', '.join(sorted(MACS))}"
        )
