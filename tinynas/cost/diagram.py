"""A diagram of all networks that keep some limits, however many they are.

States are partial networks, in layers before each block position. Partial networks that have used
up the same are one state, and so are those whose difference no longer matters because all of their
completions keep the limits. Where a layer grows too wide, states that have used nearly the same
are merged into one that has used the least of each. So every network within the limits is a path
through the diagram, and a path that is not within them is due to merging alone. (Decision diagrams
of limited width: Andersen et al. 2007, doi 10.1007/978-3-540-74970-7_11.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinynas.cost.blocks import Floats, Ints
from tinynas.space.arch import Genes

NOWHERE = -1
# Bits of a column's range that states are told apart by: all of them at first, then fewer.
EXACT_BITS, MOST_BITS = 63, 14
# Odd numbers without a pattern; sums of multiples of them tell states apart.
MULTIPLIERS = np.random.default_rng(0).integers(2**61, size=16) * 2 + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StageChoices:
    """What the choices of a stage's blocks use, per position, in whole numbers.

    Of `sums`, shape (choices, sums), and `shared`, shape (choices,), a network has the sum over
    its blocks, of `tops`, shape (choices,), the largest. A choice is a kernel with one of so many
    `expansions`.
    """

    depths: tuple[int, ...]
    expansions: int
    sums: list[Ints]
    shared: list[Ints]
    tops: list[Ints]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most of each sum, shape (sums,), and the room that shared sum and top have together.

    `top` is what every network begins with.
    """

    sums: Ints
    room: int
    top: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The states before a block position.

    `after`, shape (states, choices), is the state behind each choice, `ended`, shape (states,),
    that of the next stage if this one ends here, NOWHERE where there is none. `ways`, shape
    (states,), counts the paths from each state.
    """

    after: Ints
    ended: Ints
    ways: Floats


@dataclass(frozen=True, slots=True)
class _Used:
    """What partial networks have used: shapes (N, sums), (N,) and (N,)."""

    sums: Ints
    shared: Ints
    tops: Ints

    def part(self, which: Ints) -> _Used:
        """Some of the partial networks."""
        return _Used(self.sums[which], self.shared[which], self.tops[which])


@dataclass(frozen=True, slots=True)
class _Ahead:
    """The least and the most that is still to be used: both of `_Used` with N = 1."""

    least: _Used
    most: _Used


class Diagram:
    """All paths within limits, with up to `width` states in a layer.

    `exact` says that merged states differ in nothing that matters, so that the paths are the
    networks within the limits and no others.
    """

    def __init__(self, stages: Sequence[StageChoices], limits: Limits, *, width: int) -> None:
        self._stages = stages
        self._limits = limits
        self._width = width
        self._bits = MOST_BITS
        self.exact = True
        self._layers = _counted(self._build())

    @property
    def paths(self) -> float:
        """Number of paths: no fewer than there are networks within the limits."""
        return float(self._layers[0][0].ways.sum())

    def _build(self) -> list[tuple[list[Ints], list[Ints]]]:
        """Per stage, the states after each choice and after ending it, by layer."""
        ahead = _ahead(self._stages, len(self._limits.sums))
        start = _nothing(len(self._limits.sums), self._limits.top)
        used, _ = self._merged(start, ahead[0][0])
        edges = []
        for number, stage in enumerate(self._stages):
            layers, after = [used], []
            for position in range(stage.depths[-1]):
                more = _extended(used, stage, position)
                used, to = self._merged(more, ahead[number][position + 1])
                after.append(to.reshape(len(layers[-1].tops), len(stage.tops[position])))
                layers.append(used)
            used, to = self._merged(
                _concatenated([layers[depth] for depth in stage.depths]), ahead[number + 1][0]
            )
            ends = np.split(to, np.cumsum([len(layers[d].tops) for d in stage.depths])[:-1])
            ended = [np.full(len(layer.tops), NOWHERE) for layer in layers]
            for depth, states in zip(stage.depths, ends, strict=True):
                ended[depth] = states
            after.append(np.zeros((len(layers[-1].tops), 0), np.int64))
            edges.append((after, ended))
        return edges

    def _merged(self, used: _Used, ahead: _Ahead) -> tuple[_Used, Ints]:
        """The states of a layer, and which of them each partial network is in, or NOWHERE."""
        kept = np.flatnonzero(self._possible(used, ahead.least))
        matters = self._what_matters(used.part(kept), ahead)
        to = np.full(len(used.tops), NOWHERE)
        if not len(kept):
            return matters, to
        keys = self._keys(matters)
        order = np.argsort(keys, kind="stable")
        first = np.diff(keys[order], prepend=keys[order[0]] - 1) != 0
        to[kept[order]] = np.cumsum(first) - 1
        starts = np.flatnonzero(first)
        least = [
            np.minimum.reduceat(column[order], starts)
            for column in (matters.sums, matters.shared, matters.tops)
        ]
        return _Used(*least), to

    def _possible(self, used: _Used, least: _Used) -> npt.NDArray[np.bool_]:
        """Whether the cheapest completion of each partial network keeps all limits."""
        inside: npt.NDArray[np.bool_] = np.all(used.sums + least.sums <= self._limits.sums, axis=1)
        tops = np.maximum(used.tops, least.tops)
        return inside & (used.shared + least.shared + tops <= self._limits.room)

    def _what_matters(self, used: _Used, ahead: _Ahead) -> _Used:
        """The same with all that leaves room for any completion set to one value."""
        sums = np.maximum(used.sums, self._limits.sums - ahead.most.sums)
        room = self._limits.room - ahead.most.shared
        free = used.shared + np.maximum(used.tops, ahead.most.tops) <= room
        return _Used(
            sums,
            np.where(free, room - ahead.most.tops, used.shared),
            np.where(free, ahead.least.tops, np.maximum(used.tops, ahead.least.tops)),
        )

    def _keys(self, used: _Used) -> Ints:
        """A number for each partial network, the same for those to be merged."""
        columns = np.column_stack([used.tops, used.shared, used.sums])
        spans = columns.max(axis=0) - columns.min(axis=0)
        for bits in (EXACT_BITS, *range(self._bits, -1, -1)):
            rounded = columns // np.maximum(spans >> bits, 1)
            keys: Ints = rounded @ MULTIPLIERS[: len(spans)]
            if len(keys) <= self._width or len(np.unique(keys)) <= self._width:
                break
        if bits < EXACT_BITS:
            self.exact, self._bits = False, min(bits + 1, MOST_BITS)
        return keys

    def draw(self, count: int, rng: np.random.Generator) -> Genes:
        """Genes of `count` paths, each path as likely as any other, shape (count, genes)."""
        states = np.zeros(count, np.int64)
        columns: list[Ints] = []
        for number, (stage, layers) in enumerate(zip(self._stages, self._layers, strict=True)):
            depths = np.zeros(count, np.int64)
            choices = np.zeros((stage.depths[-1], count), np.int64)
            going, end = np.arange(count), np.zeros(count, np.int64)
            for position, layer in enumerate(layers):
                here = states[going]
                picked = _pick(self._weights(number, position, here), rng)
                stops = picked == layer.after.shape[1]
                end[going[stops]] = layer.ended[here[stops]]
                depths[going[stops]] = position
                going, picked = going[~stops], picked[~stops]
                if position < stage.depths[-1]:
                    choices[position, going] = picked
                    states[going] = layer.after[states[going], picked]
            states = end
            columns += _columns(stage, depths, choices)
        return np.stack(columns, axis=1)

    def _weights(self, stage: int, position: int, states: Ints) -> Floats:
        """Paths behind each choice, and behind ending the stage, shape (states, choices + 1)."""
        layer = self._layers[stage][position]
        last = stage + 1 == len(self._layers)
        behind = np.ones(1) if last else self._layers[stage + 1][0].ways
        ended = _ways(behind, layer.ended[states, None])
        if not layer.after.shape[1]:
            return ended
        later = self._layers[stage][position + 1].ways
        return np.concatenate([_ways(later, layer.after[states]), ended], axis=1)

    def every(self) -> Genes:
        """Genes of all paths, shape (paths, genes)."""
        states = np.arange(len(self._layers[0][0].ways))
        genes = np.zeros((len(states), 0), np.int64)
        for number in range(len(self._stages)):
            rows, added, states = self._every_stage(number, states)
            genes = np.column_stack([genes[rows], added])
        return genes

    def _every_stage(self, number: int, states: Ints) -> tuple[Ints, Genes, Ints]:
        """All ways through a stage: from which of the states, its genes, and to which states."""
        stage = self._stages[number]
        rows, choices = np.arange(len(states)), np.zeros((len(states), 0), np.int64)
        found = []
        for position, layer in enumerate(self._layers[number]):
            weights = self._weights(number, position, states)
            if position in stage.depths:
                ends = np.flatnonzero(weights[:, -1])
                genes = _columns(stage, np.full(len(ends), position), choices[ends].T)
                found.append((rows[ends], np.stack(genes, axis=1), layer.ended[states[ends]]))
            row, choice = np.nonzero(weights[:, :-1])
            rows, choices = rows[row], np.column_stack([choices[row], choice])
            states = layer.after[states[row], choice]
        origins, added, to = zip(*found, strict=True)
        return np.concatenate(origins), np.concatenate(added), np.concatenate(to)


def _columns(stage: StageChoices, depths: Ints, choices: Ints) -> list[Ints]:
    """Genes of a stage: the depths' (N,), and those of choices (positions or fewer, N)."""
    padded = np.zeros((stage.depths[-1], len(depths)), np.int64)
    padded[: len(choices)] = choices
    blocks = np.stack([padded // stage.expansions, padded % stage.expansions], axis=1)
    depth_gene = np.searchsorted(stage.depths, depths)
    return [depth_gene, *blocks.reshape(2 * stage.depths[-1], len(depths))]


def _ways(ways: Floats, states: Ints) -> Floats:
    """Paths from states, of any shape, none from NOWHERE."""
    if not len(ways):
        return np.zeros(states.shape)
    return np.where(states == NOWHERE, 0.0, ways[states])


def _counted(edges: list[tuple[list[Ints], list[Ints]]]) -> list[list[Layer]]:
    """The layers of all stages with the number of paths from each state."""
    behind = np.ones(1)
    stages: list[list[Layer]] = []
    for after, ended in reversed(edges):
        layers: list[Layer] = []
        later = np.zeros(0)
        for choices, ends in zip(reversed(after), reversed(ended), strict=True):
            later = _ways(later, choices).sum(axis=1) + _ways(behind, ends)
            layers.append(Layer(after=choices, ended=ends, ways=later))
        stages.append(layers[::-1])
        behind = later
    return stages[::-1]


def _nothing(sums: int, top: int = 0) -> _Used:
    return _Used(np.zeros((1, sums), np.int64), np.zeros(1, np.int64), np.full(1, top))


def _concatenated(parts: Sequence[_Used]) -> _Used:
    return _Used(
        np.concatenate([part.sums for part in parts]),
        np.concatenate([part.shared for part in parts]),
        np.concatenate([part.tops for part in parts]),
    )


def _extended(used: _Used, stage: StageChoices, position: int) -> _Used:
    """Each partial network with each choice of one more block."""
    added = stage.sums[position]
    return _Used(
        (used.sums[:, None] + added).reshape(-1, added.shape[1]),
        (used.shared[:, None] + stage.shared[position]).reshape(-1),
        np.maximum(used.tops[:, None], stage.tops[position]).reshape(-1),
    )


def _ahead(stages: Sequence[StageChoices], sums: int) -> list[list[_Ahead]]:
    """Per stage and layer, bounds of what is still to be used; one more for the end."""
    behind = _Ahead(_nothing(sums), _nothing(sums))
    result = [[behind]]
    for stage in reversed(stages):
        layers = [behind]
        for position in range(stage.depths[-1] - 1, -1, -1):
            least = _extreme(np.min, stage, position, layers[-1].least)
            most = _extreme(np.max, stage, position, layers[-1].most)
            if position in stage.depths:
                least = _either(np.minimum, least, behind.least)
                most = _either(np.maximum, most, behind.most)
            layers.append(_Ahead(least, most))
        result.append(layers[::-1])
        behind = layers[-1]
    return result[::-1]


def _extreme(of: Callable[..., Ints], stage: StageChoices, position: int, rest: _Used) -> _Used:
    top = np.maximum(of(stage.tops[position]), rest.tops)
    shared = of(stage.shared[position]) + rest.shared
    return _Used(of(stage.sums[position], axis=0) + rest.sums, shared, top)


def _either(of: np.ufunc, one: _Used, other: _Used) -> _Used:
    return _Used(of(one.sums, other.sums), of(one.shared, other.shared), of(one.tops, other.tops))


def _pick(weights: Floats, rng: np.random.Generator) -> Ints:
    """One column per row with probability in proportion to its weight, shape (rows,)."""
    cumulative = np.cumsum(weights, axis=1)
    targets = rng.random(len(weights)) * cumulative[:, -1]
    picked: Ints = (cumulative <= targets[:, None]).sum(axis=1).astype(np.int64)
    # Rounding may put a target on the total: then the last column that has any weight.
    last = weights.shape[1] - 1 - np.argmax(weights[:, ::-1] > 0, axis=1)
    chosen: Ints = np.minimum(picked, last)
    return chosen
