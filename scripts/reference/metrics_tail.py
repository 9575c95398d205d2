"""Writes tests/reference/metrics_tail.json: tail indices, bootstrap intervals and the tail against a weighted truth.

Run with numpy and scipy installed:  python scripts/reference/metrics_tail.py
"""

import json
from pathlib import Path

import numpy as np
import scipy
from scipy import stats

rng = np.random.default_rng(20240815)

# Excesses with a heavy, an exponential and a bounded tail.
SAMPLES = {
    "pareto": 1 + rng.pareto(3, 400),
    "exponential": 1 + rng.exponential(0.4, 500),
    "bounded": 1 + stats.genpareto(-0.3, scale=2).rvs(300, random_state=rng),
    "heavy": 5 + stats.genpareto(0.9, scale=3).rvs(600, random_state=rng),
}
SAMPLES = {name: np.round(sample, 5) for name, sample in SAMPLES.items()}


def index(sample):
    cut = float(np.round(np.quantile(sample, 0.3), 3))
    above = sample[sample > cut]
    # A finer tolerance than the default, which stops some 1e-5 from the maximum.
    finer = lambda f, start, args=(), disp=0: scipy.optimize.fmin(f, start, args=args, xtol=1e-11, ftol=1e-13, maxiter=10_000, disp=disp)
    shape, _, scale = stats.genpareto.fit(above - cut, floc=0, optimizer=finer)
    likelihood = float(stats.genpareto.logpdf(above - cut, shape, scale=scale).sum())
    return {
        "sample": sample.tolist(), "cut": cut, "gpd": float(shape), "likelihood": likelihood,
        "hill": float(np.log(above / cut).mean()),
    }


def bootstrap():
    """Intervals of upper quantiles; ours come from other random numbers, so they agree within the noise of 4000 replicas."""
    sample = np.round(rng.exponential(size=2000), 4)
    cases = []
    for u in (0.1, 0.01):
        statistic = lambda x, axis, u=u: np.quantile(x, 1 - u, axis=axis)
        result = {}
        for method in ("percentile", "basic"):
            found = stats.bootstrap((sample,), statistic, n_resamples=4000, method=method, rng=rng, batch=500)
            result[method] = [float(found.confidence_interval.low), float(found.confidence_interval.high)]
            deviation = float(found.standard_error)
        cases.append({"u": u, "value": float(np.quantile(sample, 1 - u)), "deviation": deviation, **result})
    return {"sample": sample.tolist(), "cases": cases}


def truth():
    """chi-squared with the full covariance matrix, solved by numpy."""
    cases = []
    for events, scale, normalisation in ((1500, 1.0, 0.0), (1500, 1.03, 0.0055), (500, 0.97, 0.2)):
        edges = np.array([1.0, 1.25, 1.5, 1.8, 2.2, 3.0, 4.5, 9.0])
        values = np.round(1 + rng.pareto(3, 500) * 0.8, 5)
        weights = np.round(rng.uniform(0.2, 1.0, 500) * 0.3, 5)
        total = float(np.round(weights.sum() * 2.5, 3))
        sample = np.round(scale * np.concatenate([1 + rng.pareto(3, events * 2 // 5) * 0.8, np.full(events - events * 2 // 5, 0.5)]), 5)
        inside = np.concatenate([edges[:-1], [np.inf]])
        share, squares = (np.histogram(values, inside, weights=w)[0] for w in (weights / total, (weights / total) ** 2))
        expected, found = events * share, np.histogram(sample, inside)[0].astype(float)
        groups, end = [], len(expected)
        for i in range(len(expected))[::-1]:
            if expected[i:end].sum() >= 10:
                groups.append((i, end))
                end = i
        groups[-1] = (0, groups[-1][1])
        groups = groups[::-1]
        e, n, v = (np.array([x[i:j].sum() for i, j in groups]) for x in (expected, found, events**2 * squares))
        covariance = np.diag(e + v) + normalisation**2 * np.outer(e, e)
        chi2 = float((n - e) @ np.linalg.solve(covariance, n - e))
        cases.append({
            "values": values.tolist(), "weights": weights.tolist(), "edges": edges.tolist(), "cross_section": total,
            "normalisation": normalisation, "sample": sample.tolist(), "chi2": chi2, "ndf": len(groups),
            "p": float(stats.chi2.sf(chi2, len(groups))),
        })
    return cases


reference = {
    "versions": {"numpy": np.__version__, "scipy": scipy.__version__},
    "indices": {name: index(sample) for name, sample in SAMPLES.items()},
    "bootstrap": bootstrap(),
    "truth": truth(),
}
target = Path(__file__).resolve().parents[2] / "tests" / "reference" / "metrics_tail.json"
target.write_text(json.dumps(reference, allow_nan=False) + "\n")
