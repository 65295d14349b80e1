"""Running a model's bytes in TensorFlow Lite Micro itself.

TFLM may end the whole process on a malformed file, so it runs in a process of its own: this
module, started as a script, reads arrays from stdin and answers on stdout.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinynas.errors import ModelFileError, TinynasError

Arrays = dict[str, npt.NDArray[Any]]
Int8Array = npt.NDArray[np.int8]

IDENTIFIER = b"TFL3"
ARENA_BYTES = 64 * 2**20  # for runs that only want results; larger than any MCU's
ARENA_STEP = 16  # MicroArenaBufferAlignment
# What reading a damaged file's structure raises, before the runtime itself sees it.
DAMAGE = (struct.error, TypeError, IndexError, AttributeError, UnicodeDecodeError, MemoryError)
ALLOCATION = re.compile(r"Arena allocation (head|tail) (\d+) bytes")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaUse:
    """What TFLM's recording allocator reports on this host.

    `head_bytes` (activations) is the same on a 32-bit chip; `tail_bytes` (structures) is larger
    here, where pointers have 8 bytes.
    """

    head_bytes: int
    tail_bytes: int

    @property
    def total_bytes(self) -> int:
        """Head and tail."""
        return self.head_bytes + self.tail_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What a model gave: `outputs[i][k]` is output k of invocation i; and its arena after them."""

    outputs: tuple[tuple[npt.NDArray[Any], ...], ...]
    use: ArenaUse


def runtime_available() -> bool:
    """Whether TFLM is installed: its package exists for Linux on x86-64 only."""
    return importlib.util.find_spec("tflite_micro") is not None


def _reason(stderr: str, returncode: int) -> str:
    """The last sentence that TFLM or Python said, or how the process ended."""
    if returncode < 0:
        return f"it makes the runtime crash (signal {-returncode})"
    noise = ("Traceback", "  ", "[Recording")
    lines = [line for line in stderr.splitlines() if line.strip() and not line.startswith(noise)]
    details = [line for line in lines if not line.startswith("RuntimeError")] or lines
    return details[-1].strip() if details else f"the runtime ended with code {returncode}"


def _child_environment() -> dict[str, str]:
    """Ours, with the import path of this process."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _pack(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Arrays as NumPy's .npz, without pickled objects."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return packed.getvalue()


def _unpack(content: bytes) -> Arrays:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def _ask(verb: str, arrays: Mapping[str, npt.NDArray[Any]], timeout_s: float) -> Arrays:
    """The child's answer; any failure of the child is a ModelFileError."""
    if not runtime_available():
        raise TinynasError(
            "TensorFlow Lite Micro is not installed, so no model can be run: "
            "pip install tflite-micro (Linux on x86-64 only)"
        )
    try:
        child = subprocess.run(
            [sys.executable, "-m", "tinynas.deploy.verify", verb],
            input=_pack(arrays),
            capture_output=True,
            env=_child_environment(),
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelFileError(f"TFLM did not finish with this model in {timeout_s:g} s") from None
    if child.returncode != 0:
        reason = _reason(child.stderr.decode(errors="replace"), child.returncode)
        raise ModelFileError(f"TFLM cannot run this model: {reason}")
    return _unpack(child.stdout)


def _as_array(model_bytes: bytes) -> npt.NDArray[np.uint8]:
    if model_bytes[4:8] != IDENTIFIER:
        raise ModelFileError("this is not a .tflite file: its bytes 4 to 7 are not 'TFL3'")
    return np.frombuffer(model_bytes, np.uint8)


def measure_arenas(
    models: Sequence[bytes], *, executed: bool = True, timeout_s: float = 120.0
) -> tuple[ArenaUse, ...]:
    """Arena use of several models, one process for all of them; errors as `measure_arena`.

    Not `executed` is much faster: an inference changes nothing in the arena's size.
    """
    arrays = {f"model{number}": _as_array(model) for number, model in enumerate(models)}
    if not arrays:
        return ()
    rows = _ask("measure" if executed else "allocate", arrays, timeout_s)["uses"]
    return tuple(ArenaUse(head_bytes=int(head), tail_bytes=int(tail)) for head, tail in rows)


def measure_arena(model_bytes: bytes, *, timeout_s: float = 60.0) -> ArenaUse:
    """Arena use of a .tflite file after one inference.

    Raises ModelFileError for a file that TFLM cannot run, TinynasError if TFLM is not installed.
    """
    return measure_arenas([model_bytes], timeout_s=timeout_s)[0]


def run_int8(model_bytes: bytes, images: Int8Array, *, timeout_s: float = 3600.0) -> Int8Array:
    """Outputs (N, ...) of the model's first output for int8 images (N, H, W, C).

    Raises ModelFileError and TinynasError as `measure_arena`.
    """
    arrays = {"model": _as_array(model_bytes), "images": images}
    return _ask("run", arrays, timeout_s)["outputs"]


def execute(
    models: Sequence[bytes],
    inputs: Sequence[Sequence[npt.NDArray[Any]]],
    outputs: int,
    *,
    timeout_s: float = 3600.0,
) -> tuple[Execution, ...]:
    """What each model gives for `inputs[i]`, one array per graph input, invocation by invocation.

    Variables keep their content from one invocation to the next. `outputs` is the number of
    graph outputs. Raises ModelFileError and TinynasError as `measure_arena`.
    """
    arrays: Arrays = {f"model{number}": _as_array(model) for number, model in enumerate(models)}
    arrays["count"] = np.array([len(models), len(inputs), outputs])
    for turn, given in enumerate(inputs):
        arrays |= {f"input{turn}.{index}": array for index, array in enumerate(given)}
    answer = _ask("execute", arrays, timeout_s)
    return tuple(
        Execution(
            outputs=tuple(
                tuple(answer[f"output{number}.{turn}.{index}"] for index in range(outputs))
                for turn in range(len(inputs))
            ),
            use=ArenaUse(head_bytes=int(head), tail_bytes=int(tail)),
        )
        for number, (head, tail) in enumerate(answer["uses"])
    )


def smallest_arena_bytes(model_bytes: bytes, *, timeout_s: float = 300.0) -> int:
    """Smallest arena (a multiple of 16 bytes) in which the model runs on this host.

    It exceeds what `measure_arena` reports where the head is smaller than what TFLM needs while
    it plans: 32 bytes per tensor and 40 per planned buffer on this host.
    """
    return int(_ask("bisect", {"model": _as_array(model_bytes)}, timeout_s)["bytes"])


def _interpreter(model: npt.NDArray[np.uint8], arena_bytes: int) -> Any:
    from tflite_micro.python.tflite_micro import runtime

    return runtime.Interpreter.from_bytes(model.tobytes(), arena_size=arena_bytes)


def _reported_use(interpreter: Any) -> ArenaUse:
    """What `print_allocations` writes to C's stderr, read from file descriptor 2."""
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as report:
        os.dup2(report.fileno(), 2)
        try:
            interpreter.print_allocations()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        report.seek(0)
        found = dict(ALLOCATION.findall(report.read().decode(errors="replace")))
    return ArenaUse(head_bytes=int(found["head"]), tail_bytes=int(found["tail"]))


def _measure(arrays: Arrays, *, executed: bool = True) -> Arrays:
    uses = []
    for number in range(len(arrays)):
        interpreter = _interpreter(arrays[f"model{number}"], ARENA_BYTES)
        if executed:
            interpreter.invoke()
        uses.append(_reported_use(interpreter))
    return {"uses": np.array([(use.head_bytes, use.tail_bytes) for use in uses], np.int64)}


def _allocate(arrays: Arrays) -> Arrays:
    return _measure(arrays, executed=False)


def _run(arrays: Arrays) -> Arrays:
    interpreter = _interpreter(arrays["model"], ARENA_BYTES)
    outputs: list[npt.NDArray[Any]] = []
    for image in arrays["images"]:
        interpreter.set_input(image[None], 0)
        interpreter.invoke()
        outputs.append(interpreter.get_output(0)[0])
    return {"outputs": np.stack(outputs)}


def _execute(arrays: Arrays) -> Arrays:
    models, turns, outputs = (int(count) for count in arrays["count"])
    answer: Arrays = {}
    uses = []
    for number in range(models):
        interpreter = _interpreter(arrays[f"model{number}"], ARENA_BYTES)
        for turn in range(turns):
            index = 0
            while f"input{turn}.{index}" in arrays:
                interpreter.set_input(arrays[f"input{turn}.{index}"], index)
                index += 1
            interpreter.invoke()
            for index in range(outputs):
                answer[f"output{number}.{turn}.{index}"] = interpreter.get_output(index)
        uses.append(_reported_use(interpreter))
    answer["uses"] = np.array([(use.head_bytes, use.tail_bytes) for use in uses], np.int64)
    return answer


def _works(model: npt.NDArray[np.uint8], arena_bytes: int) -> bool:
    """Whether an inference succeeds; in a fork, as TFLM can crash where the arena is too small."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            _interpreter(model, arena_bytes).invoke()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return status == 0


def _bisect(arrays: Arrays) -> Arrays:
    model = arrays["model"]
    used = _reported_use(_interpreter(model, ARENA_BYTES)).total_bytes // ARENA_STEP
    low, high = 1, used
    while not _works(model, high * ARENA_STEP):
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        if _works(model, middle * ARENA_STEP):
            high = middle
        else:
            low = middle + 1
    return {"bytes": np.array(high * ARENA_STEP)}


VERBS = {
    "measure": _measure,
    "allocate": _allocate,
    "run": _run,
    "execute": _execute,
    "bisect": _bisect,
}


def _answer(verb: str) -> None:
    """Serve one question; what the runtime prints on stdout goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        answer = VERBS[verb](_unpack(sys.stdin.buffer.read()))
    except DAMAGE:
        sys.exit("its content is damaged")
    except ValueError as error:
        sys.exit(str(error))
    with answers:
        answers.write(_pack(answer))


if __name__ == "__main__":
    _answer(sys.argv[1])
