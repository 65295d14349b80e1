"""The order in which kernels read an input and write their output, byte by byte.

Each trace yields (True, byte of the output) for a write and (False, byte of the input) for a read.
They follow the loops of the sources as of 2026; what happens within a register, and reads of
weights and biases, which lie elsewhere, is left out:

- tflite-micro, kernels/internal/reference: integer_ops/conv.h, integer_ops/depthwise_conv.h,
  integer_ops/add.h, strided_slice.h with portable_tensor.h, pad.h;
- CMSIS-NN, Source: arm_convolve_s8.c, arm_depthwise_conv_3x3_s8.c, arm_depthwise_conv_s8_opt.c,
  arm_nn_mat_mult_nt_t_s8.c (1x1), arm_elementwise_add_s8.c, arm_minimum_s8.c, arm_pad_s8.c. Plain
  C depthwise (arm_depthwise_conv_s8.c) has the order of the reference kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from tinynas.graph import Padding, output_size, same_padding

Trace = Iterator[tuple[bool, int]]
READ, WRITE = False, True


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A convolution's image, kernel and output; a depthwise one has cin == cout."""

    rows: int
    columns: int
    cin: int
    cout: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding

    @property
    def data(self) -> tuple[int, ...]:
        return 1, self.rows, self.columns, self.cin

    @property
    def out(self) -> tuple[int, ...]:
        axes = zip((self.rows, self.columns), self.kernel, self.stride, strict=True)
        return 1, *(output_size(n, k, s, self.padding) for n, k, s in axes), self.cout

    @property
    def pixels(self) -> int:
        """Of the output."""
        return self.out[1] * self.out[2]

    def read_by(self, pixel: int) -> list[int]:
        """Pixels of the image under the kernel at a pixel of the output."""
        ys, xs = (
            [i for i in range(p * s - before, p * s - before + k) if 0 <= i < n]
            for p, n, k, s, before in zip(
                divmod(pixel, self.out[2]),
                (self.rows, self.columns),
                self.kernel,
                self.stride,
                self._before(),
                strict=True,
            )
        )
        return [y * self.columns + x for y in ys for x in xs]

    def _before(self) -> tuple[int, int]:
        if self.padding == "VALID":
            return 0, 0
        (height, width), (down, right) = self.kernel, self.stride
        return same_padding(self.rows, height, down)[0], same_padding(self.columns, width, right)[
            0
        ]


def reference_depthwise(window: Window) -> Trace:
    """Channel by channel."""
    for pixel in range(window.pixels):
        for channel in range(window.cin):
            for read in window.read_by(pixel):
                yield READ, read * window.cin + channel
            yield WRITE, pixel * window.cin + channel


def cmsis_depthwise_3x3(window: Window) -> Trace:
    """Four channels at once, what is left one by one."""
    for pixel in range(window.pixels):
        whole = window.cin // 4 * 4
        blocks = [range(c, c + 4) for c in range(0, whole, 4)]
        for block in (*blocks, *(range(c, c + 1) for c in range(whole, window.cin))):
            for read in window.read_by(pixel):
                for channel in block:
                    yield READ, read * window.cin + channel
            for channel in block:
                yield WRITE, pixel * window.cin + channel


def cmsis_depthwise_columns(window: Window) -> Trace:
    """All channels of a pixel's window are copied before any of its outputs is written."""
    for pixel in range(window.pixels):
        yield from _copy_window(window, pixel)
        for channel in range(window.cin):
            yield WRITE, pixel * window.cin + channel


def _copy_window(window: Window, pixel: int) -> Trace:
    for read in window.read_by(pixel):
        for channel in range(window.cin):
            yield READ, read * window.cin + channel


def reference_convolution(window: Window) -> Trace:
    """The whole window again for each output channel."""
    for pixel in range(window.pixels):
        for channel in range(window.cout):
            yield from _copy_window(window, pixel)
            yield WRITE, pixel * window.cout + channel


def cmsis_convolution(window: Window) -> Trace:
    """Two pixels' windows are copied, rows do not matter, then both are written in turns."""
    for first in range(0, window.pixels, 2):
        pair = range(first, min(first + 2, window.pixels))
        for pixel in pair:
            yield from _copy_window(window, pixel)
        for channel in range(window.cout):
            for pixel in pair:
                yield WRITE, pixel * window.cout + channel


def cmsis_convolution_1x1(window: Window) -> Trace:
    """Two output channels of all pixels, then the next two, down to one that is left."""
    for channel in range(0, window.cout, 2):
        for first in range(0, window.pixels, 2):
            pair = range(first, min(first + 2, window.pixels))
            for pixel in pair:
                yield from _copy_window(window, pixel)
            for pixel in pair:
                for k in range(channel, min(channel + 2, window.cout)):
                    yield WRITE, pixel * window.cout + k


def element_wise(size: int, lanes: int) -> Trace:
    """Vectors of so many bytes, the last one shorter; 1 is the reference kernel."""
    for first in range(0, size, lanes):
        vector = range(first, min(first + lanes, size))
        yield from ((READ, i) for i in vector)
        yield from ((WRITE, i) for i in vector)


def copied(source: Sequence[int], target: Sequence[int]) -> Trace:
    """A memcpy: in which order is not defined where both overlap, so here the worst.

    A single byte is read before it is written.
    """
    if len(source) > 1:
        yield from ((WRITE, i) for i in target)
    yield from ((READ, i) for i in source)
    if len(source) == 1:
        yield WRITE, target[0]


def strided_slice(data: Sequence[int], begin: Sequence[int], out: Sequence[int]) -> Trace:
    """A memcpy for each run along the last axis."""
    numbers = np.arange(prod(data)).reshape(data)
    taken = numbers[tuple(slice(b, b + n) for b, n in zip(begin, out, strict=True))]
    for run, source in enumerate(taken.reshape(-1, out[-1]).tolist()):
        yield from copied(source, range(run * out[-1], (run + 1) * out[-1]))


def pad(data: Sequence[int], pads: Sequence[tuple[int, int]]) -> Trace:
    """Byte by byte of the output, a constant or the next byte of the input."""
    inside = np.pad(np.ones(data, bool), pads)
    following = 0
    for byte, is_copied in enumerate(inside.ravel().tolist()):
        if is_copied:
            yield READ, following
            following += 1
        yield WRITE, byte


def cmsis_pad(data: Sequence[int], pads: Sequence[tuple[int, int]]) -> Trace:
    """What is added up to a row, or a pixel where channels are added, then a memcpy of it."""
    inside = np.pad(np.ones(data, bool), pads).ravel()
    run = data[3] if any(pads[3]) else data[2] * data[3]
    targets = np.flatnonzero(inside).reshape(-1, run).tolist()
    written = 0
    for number, target in enumerate(targets):
        yield from ((WRITE, byte) for byte in range(written, target[0]))
        yield from copied(range(number * run, (number + 1) * run), target)
        written = target[-1] + 1
    yield from ((WRITE, byte) for byte in range(written, len(inside)))


@dataclass(frozen=True, slots=True)
class Run:
    """When each byte of the input is read last (-1 for never) and each of the output written."""

    last_read: np.ndarray
    written: np.ndarray

    def spoils(self, distance: int) -> bool:
        """Whether a byte is read after it was overwritten, the output beginning so far below."""
        shared = np.arange(distance, min(len(self.written), distance + len(self.last_read)))
        return bool(np.any(self.written[shared] < self.last_read[shared - distance]))


def run(trace: Trace, size: int, out_size: int) -> Run:
    """A trace over an input and an output of so many bytes, each of the latter written once."""
    last_read, written = np.full(size, -1), np.full(out_size, -1)
    for time, (writes, byte) in enumerate(trace):
        if writes:
            assert written[byte] == -1
            written[byte] = time
        else:
            last_read[byte] = time
    assert written.min() >= 0
    return Run(last_read, written)
