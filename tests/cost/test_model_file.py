import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))

from hand_models import HandOp, HandTensor, hand_model
from kind_models import kind_model

from tinynas.cost.layer_list import read_layer_list
from tinynas.cost.model_file import (
    LARGEST_FILE_BYTES,
    SHOWN_OPERATORS,
    read_bytes,
    read_model,
    refuse_unknown,
)
from tinynas.cost.tflite_reader import read_tflite
from tinynas.errors import ModelFileError
from tinynas.graph import MACS

LIST = Path(__file__).parents[1] / "fixtures" / "layer_lists" / "mlperf_kws_dscnn.json"


@pytest.mark.parametrize("name", ["model.tflite", "model.json", "model"])
def test_a_file_is_what_its_content_says_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(kind_model("SOFTMAX"))
    assert read_model(path) == read_tflite(kind_model("SOFTMAX"))
    for before in (b"", b" \n\t", b"\xef\xbb\xbf"):
        path.write_bytes(before + LIST.read_bytes())
        assert read_model(path) == read_layer_list(LIST.read_bytes())


def test_faults_are_told_with_the_path(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    whole = kind_model("CONV_2D")
    for content, reason in [
        (b"", "this is neither a .tflite file, .* nor a layer list"),
        (b"a text of some length", "neither a .tflite file"),
        (whole[: len(whole) // 2], "this .tflite file is damaged or cut off"),
        (b"{}", "this is not a layer list: inputs: Field required"),
        (b'  {"layers": [', "this is not a layer list: Invalid JSON"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ModelFileError, match=reason) as raised:
            read_model(path)
        assert str(raised.value).startswith(f"{path}: ") and "\n" not in str(raised.value)


def test_what_is_no_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(LARGEST_FILE_BYTES + 1)
    for path, reason in [
        (tmp_path / "absent", "there is no such file"),
        (tmp_path, "not a file that can be read"),
        (tmp_path / ("a" * 300), "cannot be read: File name too long"),
        (large, "at most 67,108,864 bytes .* are read"),
    ]:
        with pytest.raises(ModelFileError, match=reason):
            read_bytes(path)
        with pytest.raises(ModelFileError, match=reason):
            read_model(path)


def _unknown(*kinds: str) -> bytes:
    """Operators one after another; custom ones have a small letter."""
    ops = [
        HandOp(
            kind="CUSTOM" if kind[0].islower() else kind,
            custom=kind if kind[0].islower() else None,
            inputs=(step,),
            outputs=(step + 1,),
        )
        for step, kind in enumerate(kinds)
    ]
    row = HandTensor(shape=(1, 8))
    return hand_model([row] * (len(ops) + 1), ops, inputs=[0], outputs=[len(ops)])


def test_operators_whose_costs_are_not_known_are_named() -> None:
    graph = read_tflite(_unknown("my_op", "TANH", "GELU")).graph
    with pytest.raises(ModelFileError) as raised:
        refuse_unknown(graph)
    message = str(raised.value)
    assert message.startswith(
        "the costs of these operators are not known: CUSTOM:my_op 0, GELU 2;"
    )
    assert ", ".join(sorted(MACS)) in message and "\n" not in message
    many = read_tflite(_unknown(*["my_op"] * (SHOWN_OPERATORS + 2))).graph
    with pytest.raises(ModelFileError, match="CUSTOM:my_op 4 and 2 more; known"):
        refuse_unknown(many)


@pytest.mark.parametrize("kind", MACS)
def test_known_kinds_are_not_refused(kind: str) -> None:
    graph = read_tflite(kind_model(kind)).graph
    refuse_unknown(graph)
    assert [op.kind for op in graph.ops] == [kind]
