"""Writes tests/reference/metrics.json: small samples and what numpy and scipy make of them.

Run with numpy and scipy installed:  python scripts/reference/metrics.py
The test tests/metrics_reference.rs holds the metrics of this program to these numbers.
"""

import json
from pathlib import Path

import numpy as np
import scipy
from scipy import stats

rng = np.random.default_rng(20240607)

# Pairs of samples: small and large, tied, unequal in size, alike and not.
PAIRS = {
    "normal 40 and 55": (rng.normal(size=40), rng.normal(0.3, 1.2, size=55)),
    "tied integers": (rng.integers(0, 6, 60).astype(float), rng.integers(0, 7, 45).astype(float)),
    "one against nine": (rng.normal(size=1), rng.normal(size=9)),
    "the same sample": (np.arange(12.0), np.arange(12.0)),
    "far apart": (rng.normal(size=30), rng.normal(8, 1, size=20)),
    "exponential 400 and 350": (rng.exponential(size=400), rng.exponential(1.05, size=350)),
    "pareto 700 and 150": (1 + rng.pareto(3, 700), 1 + rng.pareto(2.5, 150)),
}
# Few digits keep the file small.
PAIRS = {name: tuple(np.round(sample, 4) for sample in pair) for name, pair in PAIRS.items()}
# Finite sizes and distances on every branch of the law of the Kolmogorov statistic.
SIZES = (1, 2, 5, 20, 100, 140, 141, 500, 3000, 100_000, 250_000)
SCALED = (0.1, 0.3, 0.5, 0.7, 0.9, 1.2, 1.48, 1.6, 1.99, 2.3, 3.5, 5.0)


def step_quantile(sample, p):
    """The value of the event that covers p, for p strictly between multiples of 1/n."""
    return np.sort(sample)[np.minimum((p * len(sample)).astype(int), len(sample) - 1)]


def top_w1(a, b, u):
    """(1/u) times the integral of |Q_a - Q_b| over [1 - u, 1], from all breaks of both step functions."""
    breaks = np.concatenate([np.arange(len(s) + 1) / len(s) for s in (a, b)] + [[1 - u]])
    breaks = np.unique(breaks[breaks >= 1 - u])
    middle = (breaks[1:] + breaks[:-1]) / 2
    return float(np.sum(np.diff(breaks) * np.abs(step_quantile(a, middle) - step_quantile(b, middle))) / u)


def weighted_ks(a, wa, b, wb):
    """The distance of the weighted distribution functions, and kstwo at the effective sizes."""
    points = np.concatenate([a, b])
    below = lambda s, w: np.array([w[s <= x].sum() for x in points]) / w.sum()
    d = float(np.abs(below(a, wa) - below(b, wb)).max())
    na, nb = (w.sum() ** 2 / (w**2).sum() for w in (wa, wb))
    return {"statistic": d, "p": float(stats.kstwo.sf(d, np.round(na * nb / (na + nb))))}


def pair(a, b):
    ks = stats.ks_2samp(a, b, method="asymp")
    wa, wb = rng.uniform(0.2, 2.0, len(a)).round(3), rng.uniform(0.0, 1.0, len(b)).round(3)
    cut = float(np.quantile(a, 0.8))
    return {
        "a": a.tolist(),
        "b": b.tolist(),
        "ks": {"statistic": float(ks.statistic), "p": float(ks.pvalue)},
        "a_weights": wa.tolist(),
        "b_weights": wb.tolist(),
        "weighted_ks": weighted_ks(a, wa, b, wb),
        "w1": float(stats.wasserstein_distance(a, b)),
        "top_w1": [{"u": u, "value": top_w1(a, b, u)} for u in (1.0, 0.5, 0.137, 0.02)],
        "quantiles": [{"p": p, "value": float(np.quantile(a, p))} for p in (0.0, 0.01, 0.25, 0.5, 0.9, 0.999, 1.0)],
        "cut": cut,
        "above": [int((a > cut).sum()), int((b > cut).sum())],
    }


def histograms():
    """Counts of two samples, unit weights and not, in numpy's bins."""
    cases = []
    for size_n, size_m, bins in ((400, 400, 6), (900, 300, 12), (90, 1000, 4)):
        a, b = rng.exponential(size=size_n).round(4), rng.exponential(1.1, size=size_m).round(4)
        edges = np.concatenate([[0.02], -np.log1p(-np.arange(1, bins) / bins).round(4), [4.0]])
        n, m = (np.histogram(s, edges)[0].astype(float) for s in (a, b))
        exact = stats.chi2_contingency([n, m], correction=False)
        gan = stats.chisquare(n, m * n.sum() / m.sum())
        wa, wb = rng.uniform(0.5, 1.5, size_n).round(3), rng.uniform(0.1, 3.0, size_m).round(3)
        (wn, wn2), (wm, wm2) = (
            [np.histogram(s, edges, weights=x)[0] for x in (w, w**2)] for s, w in ((a, wa), (b, wb))
        )
        total_n, total_m = wn.sum(), wm.sum()
        weighted = float(np.sum((total_m * wn - total_n * wm) ** 2 / (total_m**2 * wn2 + total_n**2 * wm2)))
        cases.append({
            "a": a.tolist(), "b": b.tolist(), "a_weights": wa.tolist(), "b_weights": wb.tolist(),
            "edges": edges.tolist(), "n": n.tolist(), "m": m.tolist(),
            "two_sample": {"chi2": float(exact.statistic), "ndf": int(exact.dof), "p": float(exact.pvalue)},
            "generated_as_expectation": {"chi2": float(gan.statistic), "ndf": bins - 1, "p": float(gan.pvalue)},
            "weighted": {"chi2": weighted, "ndf": bins - 1, "p": float(stats.chi2.sf(weighted, bins - 1))},
        })
    return cases


def kolmogorov():
    points = [(n, min(s / np.sqrt(n), 1.0)) for n in SIZES for s in SCALED]
    return [{"n": n, "x": float(x), "survival": float(stats.kstwo.sf(x, n))} for n, x in points]


reference = {
    "versions": {"numpy": np.__version__, "scipy": scipy.__version__},
    "kolmogorov": kolmogorov(),
    "pairs": {name: pair(a, b) for name, (a, b) in PAIRS.items()},
    "histograms": histograms(),
    "dijet_edges": {
        "ljet1_pt": np.linspace(200, 800, 21)[1:].tolist(),
        "ljet2_pt": np.linspace(200, 600, 21)[2:].tolist(),
        "jj_eta": np.linspace(-6, 6, 31).tolist(),
        "jj_M": np.linspace(0, 2000, 21)[5:].tolist(),
    },
}
target = Path(__file__).resolve().parents[2] / "tests" / "reference" / "metrics.json"
target.parent.mkdir(parents=True, exist_ok=True)
target.write_text(json.dumps(reference, allow_nan=False) + "\n")
