"""Rebuilds the latency tables and says how far off they are on what no fit has seen.

`python -m experiments.latency_validation` (from the repository's root, with the `experiments`
extra) makes `latency_models/tables` from `latency_models/evidence`, predicted.csv, validation.md
and pictures of predicted against measured. `--check` compares the tables with the committed ones,
byte for byte, and writes nothing; `--by-list` holds out layer lists one by one and prints how
much better that looks.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from experiments.latency_validation.energy import energy_rows, energy_table
from experiments.latency_validation.pictures import draw_models, draw_operators
from experiments.latency_validation.report import (
    by_list_table,
    judged,
    predictions_csv,
    validation_table,
)
from tinynas.lut.tables import build_tables
from tinynas.paths import data_dir

HERE = Path(__file__).parent


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--check", action="store_true", help="compare the tables, write nothing")
    options.add_argument("--by-list", action="store_true", help="hold out layer lists instead")
    asked = options.parse_args()
    if asked.by_list:
        print(by_list_table())
        return 0
    folder = data_dir("latency_models") / "tables"
    tables = build_tables()
    committed = {path.name: path.read_text("utf-8") for path in sorted(folder.iterdir())}
    different = sorted(
        name
        for name in tables.keys() | committed.keys()
        if tables.get(name) != committed.get(name)
    )
    print(json.dumps({"tables": len(tables), "different": different}))
    if asked.check:
        return 1 if different else 0
    _write(folder, tables)
    _report()
    return 0


def _write(folder: Path, tables: dict[str, str]) -> None:
    for path in folder.iterdir():
        path.unlink()
    for name, text in tables.items():
        (folder / name).write_text(text, encoding="utf-8", newline="")


def _report() -> None:
    rows = judged()
    (HERE / "predicted.csv").write_text(predictions_csv(rows), encoding="utf-8", newline="")
    text = validation_table(rows) + "\n" + energy_table(energy_rows())
    (HERE / "validation.md").write_text(text, encoding="utf-8", newline="")
    for path in (HERE / "pictures").glob("*.png"):
        path.unlink()
    draw_models(rows, HERE / "pictures")
    draw_operators(HERE / "pictures")


if __name__ == "__main__":
    sys.exit(main())
