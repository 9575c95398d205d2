"""Writes tests/reference/moments.json: unbiased MMD^2 and crude moment distance of two small samples, in numpy."""
import json
import pathlib

import numpy as np

rng = np.random.default_rng(5)
x = rng.normal(size=(40, 3)).astype(np.float32).astype(float)
y = (rng.normal(size=(40, 3)) * 1.3 + 0.4).astype(np.float32).astype(float)
median = 2.0


def kernel(a, b):
    squares = ((a[:, None] - b[None]) ** 2).sum(-1)
    return sum(np.exp(-squares / (2 * (median * m) ** 2)) for m in (0.25, 0.5, 1, 2, 4))


def within(a):
    k = kernel(a, a)
    n = len(a)
    return (k.sum() - np.trace(k)) / (n * (n - 1))


mmd = within(x) + within(y) - 2 * kernel(x, y).mean()
covariance = np.cov(x.T, bias=True) - np.cov(y.T, bias=True)
crude = ((x.mean(0) - y.mean(0)) ** 2).sum() + (covariance**2).sum()
path = pathlib.Path(__file__).parents[2] / "tests/reference/moments.json"
path.write_text(json.dumps({"x": x.tolist(), "y": y.tolist(), "median": median, "mmd": mmd, "crude": crude}) + "\n")
