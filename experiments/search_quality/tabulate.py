"""Score every subnet of a run's space with its supernet and write them to a table.

    python -m tinynas search --config HERE/supernet.yaml --data CIFAR --out RUN
    python HERE/tabulate.py RUN HERE/table.csv.gz

HERE is experiments/search_quality, and the commands are run from the top of the repository.
The run's space must be small: `reduced.yaml` has 4,000 subnets. What is scored lies in OUT.work,
so that the script goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path

from rich.progress import Progress

from tinynas import Progress as SearchProgress
from tinynas import run_search
from tinynas.search.problem import Scored

COLUMNS = "genes,correct,images,sram_bytes,flash_bytes,macs,latency_ms\n"


def table_of(scored: Scored) -> str:
    """CSV rows: genes as digits, how many validation images were right, predicted costs."""
    costs = scored.costs
    columns = (
        ["".join(map(str, row)) for row in scored.genes.tolist()],
        (scored.accuracy * scored.count).round().astype(int).tolist(),
        scored.count.tolist(),
        costs.sram_bytes.tolist(),
        costs.flash_bytes.tolist(),
        costs.macs.tolist(),
        [f"{value:.4f}" for value in costs.latency_ms.tolist()],
    )
    rows = [",".join(map(str, row)) for row in zip(*columns, strict=True)]
    return COLUMNS + "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="directory of `tinynas search`, supernet trained")
    parser.add_argument("out", type=Path, help="table to write, .csv.gz")
    options = parser.parse_args()
    with Progress() as bar:
        task = bar.add_task("scoring subnets", total=None)

        def show(progress: SearchProgress) -> None:
            total = progress.problem.sampler.count
            bar.update(task, completed=progress.evaluations, total=total)

        found = run_search(
            run=options.run,
            algorithm="exhaustive",
            out=options.out.with_name(options.out.name + ".work"),
            callbacks=[show],
        )
    if found.reason != "evaluations":
        sys.exit(f"{len(found.scored)} subnets scored; start again to go on")
    with gzip.GzipFile(options.out, "wb", mtime=0) as file:
        file.write(table_of(found.scored).encode())
    facts = {
        "subnets": len(found.scored),
        "images": int(found.scored.count[0]),
        "bytes": options.out.stat().st_size,
        "best": float(found.scored.accuracy.max()),
        "worst": float(found.scored.accuracy.min()),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
