"""Layer lists in JSON as graphs; layer_schema.py has the form, layer_chain.py what may be missing.

Numbers of tensors decide who reads what; a list that has none is a chain of layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain

from tinynas.cost.layer_chain import number_chain, with_constants
from tinynas.cost.layer_schema import LayerList, ListedLayer, ListedTensor, parse_list, shown
from tinynas.cost.op_rules import Shape, check_graph
from tinynas.cost.tflite_reader import LARGEST_LIST, ModelFile, printable
from tinynas.errors import ModelFileError
from tinynas.graph import Activation, Graph, Op, Tensor

Forms = dict[int, tuple[Shape, str]]
ACTIVATIONS: dict[str, Activation | None] = {
    "NONE": None,
    "RELU": "RELU",
    "RELU_N1_TO_1": "RELU_N1_TO_1",
    "RELU6": "RELU6",
}


def read_layer_list(content: bytes) -> ModelFile:
    """The model in the bytes of a layer list, which has neither a plan nor a description.

    Raises ModelFileError, with a sentence on what is wrong where, for anything else.
    """
    listed = parse_list(content)
    numbered = [entry.t is not None for entry in listed.read_or_written()]
    if any(numbered) and not all(numbered):
        raise ModelFileError(
            f"{numbered.count(False)} tensors of this layer list have no number 't' and others "
            "have one: give one to all, or to none in a chain of layers"
        )
    graph = _graph(with_constants(listed if all(numbered) else number_chain(listed)))
    check_graph(graph)
    return ModelFile(graph=graph, offsets={}, description="")


def _graph(listed: LayerList) -> Graph:
    """The graph of a list all of whose tensors have numbers and that lacks no constants.

    Tensors keep the order of their numbers, which decides between equals in TFLM's planner.
    """
    forms = _forms(listed)
    constants = {entry.t for entry in listed.read_or_written() if entry.const}
    place = {t: index for index, t in enumerate(sorted(forms))}
    graph = Graph(
        name=printable(listed.name),
        tensors=tuple(
            Tensor(
                name=f"tensor {t}",
                shape=shape,
                dtype=dtype,
                constant=t in constants,
                quantized=dtype != "float32",
            )
            for t, (shape, dtype) in sorted(forms.items())
        ),
        ops=tuple(_op(step, layer, place) for step, layer in enumerate(listed.layers)),
        inputs=(),
        outputs=(),
    )
    return replace(
        graph, inputs=_inputs(graph, listed, place), outputs=_outputs(graph, listed, place)
    )


def _forms(listed: LayerList) -> Forms:
    """Shape and type of each tensor by its number, the same wherever it is named."""
    forms: Forms = {}
    ends = (entry for entry in listed.inputs if entry.t is not None)
    for entry in chain(ends, listed.read_or_written()):
        if forms.setdefault(entry.number, entry.form) != entry.form:
            raise ModelFileError(
                f"tensor {entry.t} of this layer list has more than one shape or type, one of "
                f"them {shown([entry])}"
            )
    if len(forms) > LARGEST_LIST:
        raise ModelFileError(
            f"this layer list has {len(forms):,} tensors; at most {LARGEST_LIST:,} can be read"
        )
    return forms


def _op(step: int, layer: ListedLayer, place: dict[int, int]) -> Op:
    kind = printable(layer.op)
    op = Op(
        name=f"{kind} {step}",
        kind=kind,
        inputs=tuple(place[entry.number] for entry in layer.ins),
        outputs=tuple(place[entry.number] for entry in layer.outs),
        activation=ACTIVATIONS[layer.act],
    )
    if layer.kernel is None or layer.stride is None or layer.pad is None:
        return op
    window = replace(op, kernel=layer.kernel, stride=layer.stride, padding=layer.pad)
    return replace(window, dilation=layer.dilation)


def _inputs(graph: Graph, listed: LayerList, place: dict[int, int]) -> tuple[int, ...]:
    """The listed inputs: tensors that are read, and written by no layer."""
    written = {t for op in graph.ops for t in op.outputs}
    read = dict.fromkeys(t for op in graph.ops for t in graph.activations(op))
    unwritten = [t for t in read if t not in written]
    inputs = tuple(_matching(graph, listed.inputs, place, unwritten))
    lost = sorted(set(unwritten) - set(inputs))
    if lost:
        raise ModelFileError(
            f"{graph.tensors[lost[0]].name} of this layer list is read, but it is no constant, no "
            "input, and no layer writes it"
        )
    return inputs


def _outputs(graph: Graph, listed: LayerList, place: dict[int, int]) -> tuple[int, ...]:
    """The listed outputs, which may be read too; without a list all tensors that are not read."""
    read = {t for op in graph.ops for t in op.inputs}
    written = [t for op in graph.ops for t in op.outputs]
    unread = [t for t in written if t not in read]
    if listed.outputs is None:
        return tuple(unread)
    candidates = [*unread, *(t for t in reversed(written) if t in read)]
    return tuple(_matching(graph, listed.outputs, place, candidates))


def _matching(
    graph: Graph,
    entries: Iterable[ListedTensor],
    place: dict[int, int],
    candidates: Sequence[int],
) -> Iterator[int]:
    """For each input or output of the list its tensor: by number, else the first of its form."""
    by_form: dict[tuple[Shape, str], list[int]] = {}
    for t in reversed(candidates):
        by_form.setdefault((graph.tensors[t].shape, graph.tensors[t].dtype), []).append(t)
    for entry in entries:
        if entry.t in place:
            yield place[entry.number]
        elif entry.t is None and by_form.get(entry.form):
            yield by_form[entry.form].pop()
        else:
            raise ModelFileError(
                f"an input or output of this layer list, {shown([entry])}, belongs to no layer"
            )
