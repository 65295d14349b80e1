"""A process that scores subnets: their JSON comes in line by line, correct answers go out.

Run by `tinynas.supernet.scoring` with the path of the file that holds supernet and images.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from tinynas.space.arch import Arch
from tinynas.space.spec import SearchSpace
from tinynas.supernet.evaluate import recalibrate_and_score
from tinynas.supernet.network import Supernet


def main(job: Path) -> None:
    """Answer until the input ends."""
    torch.set_num_threads(1)
    content = torch.load(job, weights_only=True)
    weights, images = content["weights"], content["images"].numpy()
    labels = content["labels"].numpy()
    calibration_images = content["calibration_images"].numpy()
    supernet = Supernet(
        SearchSpace.model_validate_json(content["space"]),
        width=content["width"],
        classes=len(weights["logits.bias"]),
        channels=images.shape[-1],
    )
    supernet.load_state_dict(weights)
    for line in sys.stdin:
        arch = Arch.from_json(json.loads(line))
        score = recalibrate_and_score(supernet, arch, calibration_images, images, labels)
        print(score.correct, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
