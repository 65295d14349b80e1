"""Damaged files: more than ten thousand, none of which may end in anything but a sentence."""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))

import numpy as np
import pytest
from hand_models import HandOp, HandTensor, hand_model
from kind_models import KINDS, kind_model, options, weights, whole
from random_models import random_constants, small_graph

from tinynas.cost import op_rules
from tinynas.cost.kernels import Kernels
from tinynas.cost.layer_list import read_layer_list
from tinynas.cost.memory import head_by_op, predict_arena, unknown_memory
from tinynas.cost.model_file import refuse_unknown
from tinynas.cost.tflite_reader import IDENTIFIER, ModelFile, read_tflite
from tinynas.deploy.plan import plan_memory
from tinynas.deploy.tflite_writer import write_tflite
from tinynas.errors import ModelFileError, TinynasError
from tinynas.graph import Graph, total_macs

Reader = Callable[[bytes], ModelFile]
LISTS = Path(__file__).parents[1] / "fixtures" / "layer_lists"
LONGEST_SENTENCE = 1_500
SLOWEST_SECONDS = 5.0  # some fifty times what the slowest takes on an idle core


def _module_of(error: BaseException) -> str:
    """The file in which an exception was raised."""
    trace = error.__traceback__
    assert trace
    while trace.tb_next:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename


def _read(read: Reader, content: bytes) -> ModelFile | None:
    """What is read; None where a ModelFileError says why not in one sentence."""
    try:
        return read(content)
    except ModelFileError as error:
        message = str(error)
        assert message.isprintable() and 10 < len(message) < LONGEST_SENTENCE, message
        # A fault of ours must not pass for a damaged file.
        assert not error.__context__ or _module_of(error.__context__) != op_rules.__file__
        return None


def _try_costs(graph: Graph) -> None:
    """Each cost of what was read: a figure, or a sentence that it is not known."""
    graph.lifetimes()
    unknown_memory(graph)
    costs: list[Callable[[Graph], object]] = [refuse_unknown, total_macs]
    for kernels in get_args(Kernels):
        costs += [partial(cost, kernels=kernels) for cost in (head_by_op, predict_arena)]
    for cost in costs:
        try:
            cost(graph)
        except (ValueError, TinynasError) as error:
            assert str(error).isprintable()


def _survives(read: Reader, content: bytes) -> bool:
    """Whether a damaged file is still read; that nothing is slow or raised is asserted."""
    start = time.perf_counter()
    model = _read(read, content)
    if model:
        _try_costs(model.graph)
    assert time.perf_counter() - start < SLOWEST_SECONDS
    return model is not None


def _word(rng: np.random.Generator, length: int) -> bytes:
    """32 bits that lead far away, nearby, or anywhere."""
    edges = [0, 1, 2**31 - 1, 2**31, 2**32 - 1]
    words = [edges[int(rng.integers(5))], int(rng.integers(2 * length)), int(rng.integers(2**32))]
    return words[int(rng.integers(3))].to_bytes(4, "little")


def _damage(content: bytes, other: bytes, end: int, rng: np.random.Generator) -> bytes:
    """One to four changes before byte `end`; in half of the files none that moves what follows.

    Some put in pieces of another file.
    """
    data = bytearray(content)
    changes = int(rng.choice([4, 8]))
    for _ in range(int(rng.integers(1, 5))):
        place, change = int(rng.integers(min(end, len(data)))), int(rng.integers(changes))
        length = int(rng.integers(1, 33))
        if change == 0:
            data[place] ^= 1 << int(rng.integers(8))
        elif change == 1:
            data[place] = int(rng.integers(256))
        elif change == 2:
            data[place // 4 * 4 : place // 4 * 4 + 4] = _word(rng, len(data))
        elif change == 3:
            data[place : place + length] = bytes(len(data[place : place + length]))
        elif change == 4:
            del data[place : place + length]
        elif change == 5:
            data[place:place] = rng.bytes(length)
        elif change == 6:
            start = int(rng.integers(len(other)))
            data[place : place + length] = other[start : start + length]
        else:
            data = data[: max(place, 40)]
    return bytes(data)


def _network() -> bytes:
    """Convolution, depthwise, pool, join, mean, fully connected, softmax, with a memory plan."""
    shapes = [(1, 8, 8, 4), (1, 8, 8, 6), (1, 8, 8, 6), (1, 4, 4, 6), (1, 4, 4, 6), (1, 4, 4, 12)]
    tensors = [HandTensor(shape=shape) for shape in (*shapes, (1, 12), (1, 5), (1, 5))]
    first = len(tensors)
    tensors += weights(6, 3, 3, 4, channels=6) + weights(1, 3, 3, 6, channels=6)
    tensors += [*weights(5, 12, channels=5), whole(1, 2)]
    conv = {"StrideH": 1, "StrideW": 1, "Padding": 0}
    pool = {"StrideH": 2, "StrideW": 2, "FilterHeight": 2, "FilterWidth": 2}
    layers: list[tuple[str, tuple[int, ...], str, dict[str, float]]] = [
        ("CONV_2D", (0, first, first + 1), "Conv2DOptions", conv),
        ("DEPTHWISE_CONV_2D", (1, first + 2, first + 3), "DepthwiseConv2DOptions", conv),
        ("MAX_POOL_2D", (2,), "Pool2DOptions", pool),
        ("AVERAGE_POOL_2D", (2,), "Pool2DOptions", pool),
        ("CONCATENATION", (3, 4), "ConcatenationOptions", {"Axis": 3}),
        ("MEAN", (5, first + 6), "ReducerOptions", {}),
        ("FULLY_CONNECTED", (6, first + 4, first + 5), "FullyConnectedOptions", {}),
        ("SOFTMAX", (7,), "SoftmaxOptions", {"Beta": 1.0}),
    ]
    ops = [
        HandOp(kind=kind, inputs=inputs, outputs=(step,), options=options(table, **fields))
        for step, (kind, inputs, table, fields) in enumerate(layers, 1)
    ]
    plan = [1, 0, len(tensors), 0, 256, 640, 0, 96, 256, 192, 0, 16, *[-1] * 7]
    return hand_model(tensors, ops, inputs=[0], outputs=[8], plan=plan)


def _subnet(rng: np.random.Generator) -> bytes:
    graph = small_graph(rng)
    return write_tflite(random_constants(graph, rng), plan=plan_memory(graph).offsets)


def test_damaged_models_of_single_operators_are_read_or_refused_in_a_sentence() -> None:
    rng = np.random.default_rng(0)
    seeds = [kind_model(kind) for kind in KINDS]
    read = []
    for _ in range(400):
        for seed in seeds:
            other = seeds[int(rng.integers(len(seeds)))]
            content = bytearray(_damage(seed, other, len(seed), rng))
            if rng.integers(8):  # else the identifier may be damaged too
                content[4:8] = IDENTIFIER
            read.append(_survives(read_tflite, bytes(content)))
    assert len(read) > 10_000 and 0.05 < np.mean(read) < 0.8


@pytest.mark.parametrize(
    ("build", "count"), [(lambda rng: _network(), 2_000), (_subnet, 500)], ids=["hand", "ours"]
)
def test_damaged_networks_are_read_or_refused_in_a_sentence(
    build: Callable[[np.random.Generator], bytes], count: int
) -> None:
    rng = np.random.default_rng(1)
    seed = build(rng)
    assert _survives(read_tflite, seed)
    read = []
    for _ in range(count):
        # Tables and lists lie in the first bytes of files that we write, weights behind them.
        content = _damage(seed, seed, 6_000, rng)
        read.append(_survives(read_tflite, content[:4] + IDENTIFIER + content[8:]))
    assert 0.05 < np.mean(read) < 0.8


def test_layer_lists_of_damaged_text_are_read_or_refused_in_a_sentence() -> None:
    rng = np.random.default_rng(2)
    seeds = [path.read_bytes() for path in sorted(LISTS.glob("*.json"))]
    read = []
    for _ in range(400):
        for seed in seeds:
            content = _damage(seed, seeds[int(rng.integers(len(seeds)))], len(seed), rng)
            read.append(_survives(read_layer_list, content))
    assert len(read) == 1_600


ODD_VALUES = (
    *(None, True, -1, 0, 1, 2, 3, 2**31 - 1, 2**31, 2**63, 10**400, 1.5, "", "8", "RELU6", "x\ny"),
    *([], [[]], [0], [1, 1], {}, {"shape": []}, {"t": 0, "shape": [1]}),
)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every container of a JSON value with each of its keys."""
    if isinstance(value, dict):
        keys: list[Any] = list(value)
    elif isinstance(value, list):
        keys = list(range(len(value)))
    else:
        return []
    return [(value, key) for key in keys] + [place for k in keys for place in _places(value[k])]


def _change(listed: Any, rng: np.random.Generator) -> None:
    """One to three values of a JSON text replaced by odd ones, by others of it, or gone."""
    for _ in range(int(rng.integers(1, 4))):
        places = _places(listed)
        if not places:
            return
        owner, key = places[int(rng.integers(len(places)))]
        change = int(rng.integers(4))
        if change == 0:
            del owner[key]
        elif change == 1:
            other, at = places[int(rng.integers(len(places)))]
            owner[key] = json.loads(json.dumps(other[at]))
        elif change == 2 and isinstance(owner[key], int):
            owner[key] += int(rng.integers(-2, 3))
        else:
            owner[key] = ODD_VALUES[int(rng.integers(len(ODD_VALUES)))]


def _chain(listed: Any) -> Any:
    """The same list without numbers of tensors and constants."""
    for layer in listed["layers"]:
        layer["ins"] = [entry for entry in layer["ins"] if not entry.get("const")]
        for entry in (*layer["ins"], *layer["outs"]):
            del entry["t"]
    return listed


def test_layer_lists_of_odd_values_are_read_or_refused_in_a_sentence() -> None:
    rng = np.random.default_rng(3)
    numbered = [json.loads(path.read_text()) for path in sorted(LISTS.glob("*.json"))]
    chains = [_chain(json.loads(json.dumps(listed))) for listed in numbered]
    seeds = [json.dumps(listed) for listed in (*numbered, *chains)]
    # Three of the four can do without numbers: in ResNet-8 two paths of layers run side by side.
    assert sum(_survives(read_layer_list, seed.encode()) for seed in seeds) == 7
    read = []
    for _ in range(200):
        for seed in seeds:
            listed = json.loads(seed)
            _change(listed, rng)
            read.append(_survives(read_layer_list, json.dumps(listed).encode()))
    assert len(read) == 1_600 and 0.02 < np.mean(read) < 0.8
