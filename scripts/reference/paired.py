"""Writes tests/reference/paired.json: means over seeds, exact Wilcoxon tests and bootstrap intervals, by scipy and numpy."""
import itertools
import json
import pathlib

import numpy as np
from scipy import stats

rng = np.random.default_rng(11)
samples = {
    "five": rng.normal(-0.3, 0.2, 5),
    "ten": rng.normal(0.05, 0.3, 10),
    "fifty": rng.normal(0.1, 0.5, 50),
    "two": np.array([0.4, -0.1]),
    "one-sided": np.array([-0.5, -0.1, -0.9, -0.2, -0.3]),
    "ties": np.array([0.1, -0.1, 0.3, 0.3, -0.3, 0.5, 0.2]),
    "zeros": np.array([0.0, 0.2, -0.1, 0.4, 0.0, 0.3]),
}


def wilcoxon(values):
    """The exact two-sided p; over all signs by hand where scipy's table does not hold (ties, zeros)."""
    left = values[values != 0]
    if len(left) == len(values) and len(np.unique(np.abs(values))) == len(values):
        return stats.wilcoxon(values, method="exact").pvalue
    ranks = stats.rankdata(np.abs(left))
    sums = np.array([np.dot(signs, ranks) for signs in itertools.product([0, 1], repeat=len(left))])
    found = ranks[left > 0].sum()
    return min(1.0, 2 * min((sums <= found + 1e-9).mean(), (sums >= found - 1e-9).mean()))


def entry(values):
    n = len(values)
    low, high = stats.t.interval(0.95, n - 1, loc=values.mean(), scale=stats.sem(values))
    boot = stats.bootstrap((values,), np.mean, n_resamples=200_000, method="percentile", rng=np.random.default_rng(1))
    return {
        "values": values.tolist(),
        "mean": values.mean(),
        "sd": values.std(ddof=1),
        "low": low,
        "high": high,
        "wilcoxon_p": wilcoxon(values),
        "bootstrap": [boot.confidence_interval.low, boot.confidence_interval.high],
    }


path = pathlib.Path(__file__).parents[2] / "tests/reference/paired.json"
cases = {name: entry(values) for name, values in samples.items()}
path.write_text(json.dumps(cases, indent=1) + "\n")
