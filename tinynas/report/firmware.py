"""The files that go into a firmware project beside the model: C source, test vectors, a page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinynas.data.dataset import Dataset
from tinynas.deploy.build import Built, to_int8
from tinynas.deploy.c_source import c_source
from tinynas.deploy.integer import simulate
from tinynas.run import RunDir

VECTORS = 8


def write_firmware_files(
    run: RunDir, built: Built, report: Mapping[str, Any], data: Dataset
) -> None:
    """Write 6_model.h, 6_model.cc, 6_model.md and 6_vectors.npz into the run directory.

    The vectors are the first 8 validation images with the outputs that the firmware must give;
    the simulation that computes them is the runtime's arithmetic bit for bit.
    """
    text = c_source(
        built.content,
        built.model.graph,
        name="model",
        arena_bytes=report["firmware"]["arena_bytes"],
    )
    run.write("6_model.h", text.header)
    run.write("6_model.cc", text.source.replace('"model.h"', '"6_model.h"'))
    run.write("6_model.md", page(report))
    inputs = to_int8(data.val.images[:VECTORS])
    outputs = simulate(built.model, inputs)

    def save(path: Any) -> None:
        with path.open("wb") as file:
            np.savez(file, inputs=inputs, outputs=outputs)

    run.write_with("6_vectors.npz", save)


def page(report: Mapping[str, Any]) -> str:
    """What a firmware engineer has to know, as Markdown."""
    facts = report["firmware"]
    into, out = facts["input"], facts["output"]
    steps = "\n".join(f"{n}. {step}" for n, step in enumerate(facts["preprocessing"], start=1))
    operators = "\n".join(f"resolver.{call};" for call in facts["operators"])
    labels = "\n".join(f"{n}. {label}" for n, label in enumerate(facts["labels"]))
    executed = (
        report["executed_by"] or "no runtime: there is no tflite-micro package for this host"
    )
    return f"""# The model for your firmware

`6_model.tflite` has {report["measured"]["file_bytes"]:,} bytes; `6_model.h` and `6_model.cc` hold
the same bytes as a constant array. `6_vectors.npz` has {VECTORS} inputs and the outputs that they
must give, to the last bit.

## Memory
Reserve a tensor arena of **{facts["arena_bytes"]:,} bytes**, aligned to 16 bytes. The figure is
predicted for a 32-bit chip with runtime `{report["runtime"]}`. Executed by: {executed}.
The file carries its own memory plan (metadata `OfflineMemoryAllocation`), which every
TensorFlow Lite Micro honours. {" ".join(facts["plan"])}

## Operators to register
```cpp
tflite::MicroMutableOpResolver<{len(facts["operators"])}> resolver;
{operators}
```

## Input
Shape {into["shape"]} (NHWC), int8, scale {into["scale"]:.9g}, zero point {into["zero_point"]}.

{steps}

## Output
Shape {out["shape"]}, int8, scale {out["scale"]:.9g}, zero point {out["zero_point"]}: one logit per
class, real = scale * (int8 - zero point). The largest is the answer; softmax of the real values
gives probabilities.

Classes, numbered from 0:

{labels}
"""
