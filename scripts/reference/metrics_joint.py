"""Writes tests/reference/metrics_joint.json: metrics of whole events as JetNet, prdc and scikit-learn compute them.

Run with these installed:  pip install jetnet==0.2.5 prdc==0.2 scikit-learn pyarrow;  python scripts/reference/metrics_joint.py
(JetNet 0.2.5 wants a scipy whose `linalg.sqrtm` still takes `disp`; newer ones need a wrapper that returns a pair.)
FPD, KPD and the classifier see the 30,000 events of either table in examples/dijet, the one of them deformed.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import sklearn
from jetnet.evaluation import gen_metrics
from prdc import compute_prdc
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

ROOT = Path(__file__).resolve().parents[2]
rng = np.random.default_rng(20240901)


def small():
    """Small samples of correlated events, one with a singular covariance, and all that is exact about them."""
    cases = []
    for n, m, width, shift in ((40, 55, 3, 0.0), (80, 60, 5, 0.4), (30, 30, 1, 0.2), (50, 50, 4, 0.1)):
        mixing = rng.normal(size=(width, width))
        real = (rng.normal(size=(n, width)) @ mixing).round(4)
        made = ((rng.normal(size=(m, width)) * 1.2 + shift) @ mixing).round(4)
        moments = [(x.mean(axis=0), np.atleast_2d(np.cov(x, rowvar=False))) for x in (real, made)]
        frechet = gen_metrics._calculate_frechet_distance(*moments[0], *moments[1])
        kernel = gen_metrics._mmd_poly_quadratic_unbiased(real, made)
        cases.append({
            "width": width, "real": real.ravel().tolist(), "generated": made.ravel().tolist(),
            "frechet": float(frechet), "kernel": float(kernel),
            "overlap": {k: {name: float(x) for name, x in compute_prdc(real, made, k).items()} for k in (2, 5)},
        })
    return cases


def lines():
    """Straight lines in 1/N with noise, and those that the bounds hold."""
    sizes = (1 / np.linspace(1 / 20_000, 1 / 50_000, 10)).astype("int32")
    cases = []
    for intercept, slope in ((1e-3, 20.0), (5e-2, 300.0), (-4e-4, 60.0), (2e-3, -20.0)):
        values = intercept + slope / sizes + rng.normal(0, 2e-4, len(sizes))
        found, covariance = gen_metrics.curve_fit(
            gen_metrics._linear, 1 / sizes, values, bounds=([0, 0], [np.inf, np.inf]), xtol=1e-15, ftol=1e-15, gtol=1e-15
        )
        cases.append({
            "sizes": sizes.tolist(), "values": values.tolist(), "value": float(found[0]),
            "error": float(np.sqrt(covariance[0, 0])),
        })
    return cases


def deformed(columns, name):
    """Known deformations of the events, from a low-discrepancy sequence in the place of noise."""
    columns = {key: values.astype(np.float64) for key, values in columns.items()}
    noise = lambda step: (np.arange(len(columns["ljet1_M"])) * step) % 1.0 - 0.5
    if name != "none":
        width = {"slight": 0.2, "plain": 0.5, "strong": 1.0}[name]
        columns["ljet1_M"] = columns["ljet1_M"] * (1 + width * noise(0.6180339887498949))
        columns["ljet2_pt"] = columns["ljet2_pt"] * (1 + width / 10 * noise(0.4142135623730951))
    if name == "strong":
        columns["ljet1_eta"] = columns["ljet1_eta"] * 0.9
    return np.column_stack(list(columns.values())).astype(np.float32)


def whole():
    features = ["ljet1_pt", "ljet1_eta", "ljet1_M", "ljet2_pt", "ljet2_eta", "ljet2_phi", "ljet2_M"]
    read = lambda name: {key: parquet.read_table(ROOT / "examples" / "dijet" / name)[key].to_numpy() for key in features}
    test, train = read("test.parquet"), read("train.parquet")
    real = deformed(test, "none")
    cases = []
    for name in ("none", "slight", "plain", "strong"):
        made = deformed(train, name)
        # The largest batch is the sample, as where there are fewer than 50,000 events.
        fpd = gen_metrics.fpd(real, made, min_samples=12_000, max_samples=30_000)
        kpd = gen_metrics.kpd(real, made)
        # Even events train, odd ones judge.
        x = np.concatenate([real, made])
        y = np.concatenate([np.zeros(len(real)), np.ones(len(made))])
        even = np.arange(len(x)) % 2 == 0
        trees = HistGradientBoostingClassifier(early_stopping=False, max_iter=60).fit(x[even], y[even])
        cases.append({
            "deformation": name,
            "fpd": [float(v) for v in fpd], "kpd": [float(v) for v in kpd],
            "auc": float(roc_auc_score(y[~even], trees.predict_proba(x[~even])[:, 1])),
        })
    return cases


def areas():
    scores = rng.normal(size=80).round(1)
    classes = rng.random(80) < 0.4 + 0.1 * scores
    return {"scores": scores.tolist(), "classes": classes.tolist(), "area": float(roc_auc_score(classes, scores))}


reference = {
    "versions": {"numpy": np.__version__, "sklearn": sklearn.__version__, "jetnet": "0.2.5", "prdc": "0.2"},
    "small": small(),
    "lines": lines(),
    "whole": whole(),
    "area": areas(),
}
target = ROOT / "tests" / "reference" / "metrics_joint.json"
target.write_text(json.dumps(reference, allow_nan=False) + "\n")
