"""Training steps of random subnets: ours, the same as plain modules, and once-for-all's own.

    pip install --no-deps ofa && pip install tqdm
    python experiments/benchmarks/supernet.py

A step is forward, loss, backward and AdamW, on the same images. Once-for-all computes in NCHW, as
its own training does; a row of its own shows what it would gain from channels_last. The
implementations take turns, subnet by subnet; what is compared are medians over the turns, and the
geometric mean over subnets. Before, all must give the same logits, at an odd size: at even ones
once-for-all pads otherwise.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import geometric_mean, median
from time import perf_counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinynas.config import usable_cores
from tinynas.space.arch import Arch, decode, random_genes
from tinynas.space.spec import SearchSpace, find_space
from tinynas.supernet.accelerator import autocast, find_accelerator
from tinynas.supernet.activation import ReLU6
from tinynas.supernet.layers import BATCH_NORM_EPS, BatchNorm
from tinynas.supernet.network import Block, DepthwiseConv2d, Supernet, extract
from tinynas.supernet.settings import TrainSettings
from tinynas.supernet.training import make_optimizer

CLASSES, CHANNELS = 100, 3
SPACE = "mcunet"  # the one whose widths and strides once-for-all's ProxylessNAS family has too
Forward = Callable[[Tensor], Tensor]
LAST, FIRST = torch.channels_last, torch.contiguous_format
# Modules whose weights a step changes, their forward pass, and the order of data in memory.
Implementation = tuple[nn.Module, Forward, torch.memory_format]


def stock(net: nn.Sequential) -> nn.Sequential:
    """The extracted subnet of torch's own modules alone."""
    plain = copy.deepcopy(net)
    for module in list(plain.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, DepthwiseConv2d):
                child.__class__ = nn.Conv2d
            if isinstance(child, ReLU6):
                setattr(module, name, nn.ReLU6(inplace=True))
    return plain


def ofa_supernet(ours: Supernet) -> Any | None:
    """Once-for-all's supernet with our weights; None, with a sentence, where it is missing.

    Its last 1x1 convolution to 1,280 channels, which `mcunet` does not have, is taken out.
    """
    try:
        from ofa.imagenet_classification.elastic_nn.networks import OFAProxylessNASNets
    except ImportError as error:
        print(f"once-for-all is left out ({error}); pip install --no-deps ofa && pip install tqdm")
        return None
    net = OFAProxylessNASNets(
        n_classes=CLASSES,
        bn_param=(0.1, BATCH_NORM_EPS),
        dropout_rate=0,
        width_mult=ours.width,
        ks_list=[3, 5, 7],
        expand_ratio_list=[3, 4, 6],
        depth_list=[2, 3, 4],
    )
    net.feature_mix_layer, net.classifier = nn.Identity(), copy.deepcopy(ours.logits)
    copy_weights(ours, net)
    return net


@torch.no_grad()
def copy_weights(ours: Supernet, theirs: Any) -> None:
    first = theirs.first_conv
    first.conv.weight.copy_(ours.stem.weight)
    copy_norm(ours.stem.norm, first.bn)
    block, copied = ours.block(0, 0), theirs.blocks[0].conv
    copied.depth_conv.conv.weight.copy_(block.depthwise.weight)
    copy_norm(block.depthwise.norm, copied.depth_conv.bn)
    copied.point_linear.conv.weight.copy_(block.project.weight)
    copy_norm(block.project.norm, copied.point_linear.bn)
    number = 1
    for stage in range(1, len(ours.space.stages)):
        for position in range(ours.space.stages[stage].depth[-1]):
            copy_block(ours.block(stage, position), theirs.blocks[number].conv)
            number += 1


def copy_block(block: Block, theirs: Any) -> None:
    assert block.expand is not None
    theirs.inverted_bottleneck.conv.conv.weight.copy_(block.expand.weight)
    copy_norm(block.expand.norm, theirs.inverted_bottleneck.bn.bn)
    depthwise = theirs.depth_conv.conv
    depthwise.conv.weight.copy_(block.depthwise.weight)
    for name, larger in (("5", "7"), ("3", "5")):  # they multiply by the transpose
        getattr(depthwise, f"{larger}to{name}_matrix").copy_(block.depthwise.shrink[name].T)
    copy_norm(block.depthwise.norm, theirs.depth_conv.bn.bn)
    theirs.point_linear.conv.conv.weight.copy_(block.project.weight)
    copy_norm(block.project.norm, theirs.point_linear.bn.bn)


def copy_norm(ours: BatchNorm, theirs: nn.BatchNorm2d) -> None:
    theirs.weight.copy_(ours.weight)
    theirs.bias.copy_(ours.bias)


def activate(net: Any, space: SearchSpace, arch: Arch) -> None:
    """Set once-for-all's supernet to a subnet; blocks that do not exist keep any value."""
    kernels: list[int] = []
    expansions: list[int] = []
    for stage, ks, es in zip(space.stages[1:], arch.kernels[1:], arch.expansions[1:], strict=True):
        absent = stage.depth[-1] - len(ks)
        kernels += [*ks, *[3] * absent]
        expansions += [*es, *[3] * absent]
    net.set_active_subnet(ks=kernels, e=expansions, d=list(arch.depths[1:]))


def implementations(ours: Supernet, theirs: Any | None, arch: Arch) -> dict[str, Implementation]:
    """One subnet in every way there is."""
    extracted = extract(ours, arch).to(memory_format=LAST)
    plain = stock(extracted)
    found: dict[str, Implementation] = {
        "ours": (ours, lambda x: ours(x, arch), LAST),
        "plain": (plain, plain, LAST),
        "extracted": (extracted, extracted, LAST),
    }
    if theirs is not None:
        activate(theirs, ours.space, arch)
        found["ofa"] = (theirs, theirs, FIRST)
        last = copy.deepcopy(theirs).to(memory_format=LAST)
        found["ofa, channels_last"] = (last, last, LAST)
    return found


def check(ours: Supernet, theirs: Any | None, archs: list[Arch], size: int) -> None:
    """Raise unless all implementations give the same logits for images of an odd size."""
    x = torch.randn(8, CHANNELS, size, size, generator=torch.Generator().manual_seed(0))
    x = x.to(ours.logits.weight.device)
    assert size % 32 == 1, "every map must be odd, for once-for-all pads evenly"
    for arch in archs:
        resized = Arch.from_json({**arch.to_json(), "resolution": size})
        with torch.no_grad():
            logits = {
                name: forward(x.contiguous(memory_format=order))
                for name, (_, forward, order) in implementations(ours, theirs, resized).items()
            }
        for other in logits.values():
            torch.testing.assert_close(other, logits["ours"], rtol=1e-3, atol=1e-3)


def make_step(implementation: Implementation, x: Tensor, y: Tensor) -> Callable[[], None]:
    net, forward, order = implementation
    x = x.contiguous(memory_format=order)
    optimizer = make_optimizer(net.train(), TrainSettings())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with autocast(x.device, "auto"):
            loss = F.cross_entropy(forward(x).float(), y)
        loss.backward()
        optimizer.step()

    return step


def time_steps(
    steps: Mapping[str, Callable[[], None]], turns: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of each step, all of them taking turns."""
    for step in steps.values():
        step()
        step()
    durations: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            if device.type == "cuda":
                torch.cuda.synchronize()
            start = perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            durations[name].append(perf_counter() - start)
    return {name: median(values) for name, values in durations.items()}


def report(seconds: list[dict[str, float]], batch: int) -> dict[str, float | None]:
    """Prints a row per implementation; gives what the last line says."""
    means = {name: geometric_mean(row[name] for row in seconds) for name in seconds[0]}
    print(f"{'':20} {'ms a step':>10} {'images/s':>10} {'times ours':>11}")
    for name, mean in means.items():
        print(f"{name:20} {mean * 1e3:10.1f} {batch / mean:10.0f} {mean / means['ours']:11.2f}")
    ofa = means.get("ofa")
    return {
        "time_ratio_vs_plain": round(means["ours"] / means["plain"], 3),
        "speedup_vs_ofa": round(ofa / means["ours"], 3) if ofa else None,
        "images_per_second": round(batch / means["ours"], 1),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--width", type=float, default=0.5)
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--subnets", type=int, default=8)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="a CSV file of all medians")
    return parser.parse_args()


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)  # for once-for-all's initial weights, replaced at once
    device = find_accelerator(options.accelerator)
    name = torch.cuda.get_device_name() if device.type == "cuda" else platform.machine()
    print(f"{name}, {options.threads} threads, Python {platform.python_version()}, ", end="")
    print(f"PyTorch {torch.__version__}")
    space, width, resolution = find_space(SPACE), options.width, options.resolution
    ours = Supernet(space, width=width, classes=CLASSES, channels=CHANNELS, seed=options.seed)
    ours.to(device).to(memory_format=LAST)
    theirs = ofa_supernet(ours)
    if theirs is not None:
        theirs.to(device)
    genes = random_genes(space, options.subnets, np.random.default_rng(options.seed))
    archs = [decode(space, row, width=width, resolution=resolution) for row in genes]
    check(ours, theirs, archs[:3], resolution // 32 * 32 + 1)
    generator = torch.Generator().manual_seed(options.seed)
    x = torch.randn(options.batch, CHANNELS, resolution, resolution, generator=generator)
    x = x.to(device)
    y = torch.randint(CLASSES, (options.batch,), generator=generator).to(device)
    print(
        f"{space.name}, width {width:g}, {resolution} pixels, batches of {options.batch}, ", end=""
    )
    print(f"{len(archs)} random subnets, {options.turns} turns, seed {options.seed}")
    seconds = []
    for arch in archs:
        # Every subnet starts from the same weights: the steps of others have not changed them.
        nets = implementations(copy.deepcopy(ours), copy.deepcopy(theirs), arch)
        steps = {key: make_step(net, x, y) for key, net in nets.items()}
        seconds.append(time_steps(steps, options.turns, device))
    result = report(seconds, options.batch)
    if options.out:
        rows = [",".join(seconds[0]), *(",".join(map(str, row.values())) for row in seconds)]
        options.out.write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    sys.exit(main())
