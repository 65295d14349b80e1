"""Where training runs, and in which precision."""

from __future__ import annotations

import torch

from tinynas.errors import UsageError
from tinynas.supernet.settings import Accelerator, Precision


def find_accelerator(name: Accelerator) -> torch.device:
    """The device of that name; `auto` is a CUDA GPU where there is one, else the CPU.

    Raises UsageError for `cuda` without a GPU that torch can use.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise UsageError(
            "--accelerator cuda needs an NVIDIA GPU and a PyTorch built for it, and torch finds "
            "none; use --accelerator auto or cpu"
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """A context in which networks compute in `precision`; weights and losses stay float32.

    `auto` is bfloat16 on a GPU that has it. On a CPU it is float32: training there waits for
    memory and for depthwise convolutions, which oneDNN 3.13 runs slower in bfloat16, even on
    processors with AMX (0.7 to 1.0 times the speed).
    """
    half = precision == "bfloat16" or (
        precision == "auto" and device.type == "cuda" and torch.cuda.is_bf16_supported()
    )
    return torch.autocast(device.type, torch.bfloat16, enabled=half)
