"""How well are accuracies predicted? The predictor against the table of scores (table.csv.gz).

    python experiments/search_quality/predictor.py

Learns from so many subnets drawn uniformly and predicts all the others: Kendall's tau with their
scores, beside that of MACs alone, and how many scores lie within one predicted standard deviation
(68.3 % if deviations are right). Medians over seeds, quartiles in brackets; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from quality import HERE, read_table
from scipy.stats import kendalltau

from tinynas.search.predictor import Predictor
from tinynas.space.spec import find_space

KNOWN = (50, 100, 300, 1_000)


def quartiles(values: list[float]) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    space = find_space(str(HERE / "reduced.yaml"))
    rows = read_table()
    genes = np.array([[int(gene) for gene in row["genes"]] for row in rows])
    accuracy = np.array([int(row["correct"]) / int(row["images"]) for row in rows])
    macs = np.array([int(row["macs"]) for row in rows])
    print("| scores known | predictor's tau | tau of MACs | within one deviation |")
    print("|---:|---:|---:|---:|")
    medians = {}
    for known in KNOWN:
        taus, by_macs, within = [], [], []
        for seed in range(options.seeds):
            rng = np.random.default_rng(seed)
            order = rng.permutation(len(genes))
            seen, unseen = order[:known], order[known:]
            mean, deviation = Predictor(space, genes[seen], accuracy[seen], rng).predict(
                genes[unseen]
            )
            taus.append(float(kendalltau(mean, accuracy[unseen]).statistic))
            by_macs.append(float(kendalltau(macs[unseen], accuracy[unseen]).statistic))
            within.append(float(np.mean(np.abs(mean - accuracy[unseen]) <= deviation)))
        medians[known] = round(float(np.median(taus)), 3)
        cells = [quartiles(taus), quartiles(by_macs), quartiles(within)]
        print(f"| {known:,} | " + " | ".join(cells) + " |", flush=True)
    print(json.dumps({"seeds": options.seeds, "median_tau": medians}))


if __name__ == "__main__":
    main()
