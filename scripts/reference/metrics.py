"""Writes tests/reference/metrics.json: small samples and what numpy and scipy make of them.

Run with numpy and scipy installed:  python scripts/reference/metrics.py
The test tests/metrics_reference.rs holds the metrics of this program to these numbers.
"""

import json
import warnings
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


def weighted_top_w1(a, b, w, u):
    """top_w1 against weighted events: the breaks of their quantile function are cumulated weights."""
    down = np.argsort(b)[::-1]
    reach = np.cumsum(w[down]) / w.sum()
    breaks = np.unique(np.concatenate([[0, u], np.arange(len(a) + 1) / len(a), reach]))
    breaks = breaks[breaks <= u]
    middle = (breaks[1:] + breaks[:-1]) / 2
    top_a = np.sort(a)[::-1][np.minimum((middle * len(a)).astype(int), len(a) - 1)]
    top_b = b[down][np.minimum(np.searchsorted(reach, middle), len(b) - 1)]
    return float(np.sum(np.diff(breaks) * np.abs(top_a - top_b)) / u)


def anderson(a, b):
    """The midrank statistic; none where scipy has none (fewer than four events divide by zero)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(stats.anderson_ksamp([a, b], variant="midrank").statistic)


def anderson_upper(a, b):
    """nm/N times the sum over values z but the largest of (share at z) (F - G)^2 / (1 - H)."""
    both = np.sort(np.concatenate([a, b]))
    z, times = np.unique(both, return_counts=True)
    f, g = (np.searchsorted(np.sort(s), z, "right") / len(s) for s in (a, b))
    h = np.cumsum(times) / len(both)
    inner = times[:-1] / len(both) * (f[:-1] - g[:-1]) ** 2 / (1 - h[:-1])
    return float(len(a) * len(b) / len(both) * inner.sum())


def merged_weighted(wn, wn2, wm, wm2):
    """The weighted chi-squared after joining bins from the top until the common shape expects ten effective events of both."""
    half = (wn.sum() ** 2 / wn2.sum() + wm.sum() ** 2 / wm2.sum()) / 2
    expected = half * (wn / wn.sum() + wm / wm.sum())
    groups, end = [], len(wn)
    for i in range(len(wn))[::-1]:
        if expected[i:end].sum() >= 10:
            groups.append((i, end))
            end = i
    groups[-1] = (0, groups[-1][1])
    n, n2, m, m2 = ([x[i:j].sum() for i, j in groups] for x in (wn, wn2, wm, wm2))
    n, n2, m, m2 = map(np.array, (n, n2, m, m2))
    total_n, total_m = n.sum(), m.sum()
    value = float(np.sum((total_m * n - total_n * m) ** 2 / (total_m**2 * n2 + total_n**2 * m2)))
    return {"chi2": value, "ndf": len(groups) - 1, "p": float(stats.chi2.sf(value, len(groups) - 1))}


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
        "anderson": anderson(a, b),
        "anderson_upper": anderson_upper(a, b),
        "w1": float(stats.wasserstein_distance(a, b)),
        "weighted_w1": float(stats.wasserstein_distance(a, b, v_weights=wb)),
        "weighted_top_w1": [{"u": u, "value": weighted_top_w1(a, b, wb, u)} for u in (0.5, 0.137, 0.02)],
        "top_w1": [{"u": u, "value": top_w1(a, b, u)} for u in (1.0, 0.5, 0.137, 0.02)],
        "quantiles": [{"p": p, "value": float(np.quantile(a, p))} for p in (0.0, 0.01, 0.25, 0.5, 0.9, 0.999, 1.0)],
        "cut": cut,
        "above": [int((a > cut).sum()), int((b > cut).sum())],
    }


def histograms():
    """Counts of two samples, unit weights and not, in numpy's bins."""
    cases = []
    for size_n, size_m, bins in ((400, 400, 6), (900, 300, 12), (90, 1000, 4), (60, 70, 12)):
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
            "weighted_merged": merged_weighted(wn, wn2, wm, wm2),
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
