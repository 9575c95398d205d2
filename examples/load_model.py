"""Draws events from a model that `pgan-pipe export --format safetensors` has written. Needs numpy and safetensors.

    python examples/load_model.py boosted.safetensors 10000 events.npy

or, in a program of your own:

    model = load_model.Model("boosted.safetensors")
    events = model.sample(10000, numpy.random.default_rng(1))    # [events, model.columns], in physical units

docs/EXPORT.md describes the file.
"""

import json
import math
import sys

import numpy as np
from safetensors import safe_open

DIJET = ["ljet1_pt", "ljet1_eta", "ljet1_M", "ljet2_pt", "ljet2_eta", "ljet2_phi", "ljet2_M"]
BATCH = 1024
SINGLE = np.finfo(np.float32)


class Model:
    def __init__(self, path):
        with safe_open(path, "np") as file:
            header = json.loads(file.metadata()["pgan_pipe"])
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}
        if header["format"] != 1:
            raise ValueError(f"{path}: format {header['format']} is not 1")
        self.columns, self.uniforms, self.latent = header["columns"], header["uniforms"], header["latent"]
        self.components, self.ratios = header["model"]["components"], header["model"].get("ratios", [])
        self.description = header["model"]["description"]

    def sample(self, count, rng):
        """So many events of the model."""
        kept, missing = [], count
        while missing > 0:
            z = rng.standard_normal((missing, self.latent), np.float32)
            u = rng.random((missing, len(self.uniforms)))
            # An event outside of its component's windows is drawn again from the same component: another z, the same u.
            outside = np.arange(missing)
            while len(outside := outside[~self.candidates(z[outside], u[outside])[1]]):
                z[outside] = rng.standard_normal((len(outside), self.latent), np.float32)
            events, _, accepted = self.candidates(z, u)
            kept.append(events[accepted])
            missing -= len(kept[-1])
        return np.concatenate(kept)

    def candidates(self, z, u):
        """What random numbers make: events, whether each is inside of its windows, and whether it belongs to the sample."""
        if len(z) > BATCH:
            parts = [self.candidates(z[at : at + BATCH], u[at : at + BATCH]) for at in range(0, len(z), BATCH)]
            return tuple(map(np.concatenate, zip(*parts)))
        u = dict(zip(self.uniforms, u.T))
        rows, inside = self.mixture(z, u.get("component", np.zeros(len(z))))
        for index, columns in enumerate(self.description["symmetries"]):
            rows[np.ix_(u[f"symmetry_{index}"] < 0.5, columns)] *= -1
        values = self.observables(rows, u["sign"] < 0.5 if "sign" in u else False)
        probability = np.ones(len(z))
        for index, ratio in enumerate(self.ratios):
            if strata := ratio.get("strata"):
                stratum = np.searchsorted(strata["edges"], values[strata["observable"]], side="right")
                log = np.array(strata["log_factors"])[stratum]
            else:
                seen = self.seen(rows, ratio["classifier"]["derived"])
                log = self.net(f"ratios.{index}", ratio["classifier"]["layers"], seen)[:, 0]
            probability *= np.exp(np.minimum(log + ratio["offset"] - ratio["ceiling"], 0.0))
        accepted = inside & (u["accept"] < probability) if self.ratios else inside
        return np.stack([values[name] for name in self.columns], 1).astype(np.float32), inside, accepted

    def mixture(self, z, choice):
        """Encoded rows, each of the component that is chosen, and whether they are inside of its windows."""
        chosen = np.searchsorted(np.cumsum([c["weight"] for c in self.components[:-1]]), choice, side="right")
        rows, inside = np.empty((len(z), len(self.description["features"])), np.float32), np.ones(len(z), bool)
        for index, component in enumerate(self.components):
            own = chosen == index
            rows[own] = self.net(f"components.{index}", component["layers"], z[own, : component["layers"][0]["inputs"]])
            for window in component.get("windows", []):
                above = self.observables(rows[own])[window["observable"]] > window["cut"]
                inside[own] &= above == (window["side"] == "above")
        return rows, inside

    def net(self, prefix, layers, x):
        """A net on rows, in single precision."""
        for index, layer in enumerate(layers):
            own = lambda name: self.tensors[f"{prefix}.{index}.{name}"]
            match layer["layer"]:
                case "linear":
                    x = x @ own("weight") + own("bias")
                case "affine":
                    x = x * own("scale") + own("shift")
                case "leaky_relu":
                    x = np.maximum(x, np.float32(0.2) * x)
                case "tanh":
                    x = np.tanh(x)
                case "conv" | "conv_transpose":
                    x = convolve(x, layer, own("weight"), own("bias"))
                case other:
                    raise ValueError(f"unknown layer `{other}`")
        return x

    def decoded(self, rows):
        """Features in physical units, by name, in double precision."""
        rows, coordinates = rows.astype(float), self.description["coordinates"]
        if "dijet" in coordinates:
            return dijet(rows * coordinates["dijet"]["deviations"] + coordinates["dijet"]["means"])
        return {name: decode(map, y) for name, map, y in zip(self.description["features"], coordinates["columns"], rows.T)}

    def observables(self, rows, negative=False):
        """Features in single precision, and what is derived of them. `negative` is the sign of phi where coordinates leave it out."""
        values = self.decoded(rows)
        if "dijet" in self.description["coordinates"]:
            phi = np.clip(values["ljet2_phi"], 0, np.nextafter(np.float32(math.pi), np.float32(0)))
            values["ljet2_phi"] = np.where(negative, -phi, phi)
            edge = np.nextafter(np.float32(2.5), np.float32(0))
            values |= {name: np.clip(values[name], -edge, edge) for name in ("ljet1_eta", "ljet2_eta")}
        values = {name: np.clip(x, SINGLE.min, SINGLE.max).astype(np.float32).astype(float) for name, x in values.items()}
        if self.description["observables"] == "dijet":
            bounded = {name: np.clip(values[name], -20, 20) for name in ("ljet1_eta", "ljet2_eta")}
            x, y, z, energy = pair(values | bounded)
            pt = np.hypot(x, y)
            mass = np.sqrt(np.maximum(energy**2 - pt**2 - z**2, 0))
            values = {"jj_pt": pt, "jj_eta": np.arcsinh(z / np.maximum(pt, 1e-9)), "jj_M": mass} | values
        return values

    def seen(self, rows, derived):
        """What a classifier sees: rows, and standardised logarithmic observables of the jet pair."""
        if not derived["names"]:
            return rows
        x, y, z, energy = pair(self.decoded(rows))
        pt2 = x**2 + y**2
        mass = np.log(np.maximum(energy**2 - z**2 - pt2, 1e4)) / 2
        forms = {"jj_pt": np.log(pt2 + 25) / 2, "jj_eta": np.arcsinh(z / np.sqrt(pt2 + 25)), "jj_M": mass}
        forms = np.stack([forms[name] for name in derived["names"]], 1)
        return np.concatenate([rows, (forms - derived["means"]) / derived["deviations"]], 1, dtype=np.float32)


def convolve(x, layer, weight, bias):
    """A convolution, or a transposed one: a convolution with the kernel turned about."""
    side, size, pad = layer["side"], layer["kernel"], layer["padding"]
    if layer["layer"] == "conv_transpose":
        weight = weight.reshape(layer["inputs"], -1, size, size)[:, :, ::-1, ::-1].swapaxes(0, 1)
        weight, pad = weight.reshape(len(weight), -1), size - 1 - pad
    around = (pad, pad + layer["append"])
    images = np.pad(x.reshape(len(x), layer["inputs"], side, side), ((0, 0), (0, 0), around, around))
    under = np.lib.stride_tricks.sliding_window_view(images, (size, size), (2, 3)).transpose(0, 2, 3, 1, 4, 5)
    out = under.reshape(-1, weight.shape[1]) @ weight.T + bias
    return out.reshape(len(x), -1, len(weight)).swapaxes(1, 2).reshape(len(x), -1)


erfc = np.vectorize(math.erfc, otypes=[float])


def cdf(x):
    return erfc(-x / math.sqrt(2)) / 2


def decode(map, y):
    """A coordinate to a physical value."""
    match map["map"]:
        case "standard":
            return y * map["deviation"] + map["mean"]
        case "log":
            return np.clip(np.exp(y * map["deviation"] + map["mean"]), SINGLE.tiny, SINGLE.max)
        case "min_max":
            return map["min"] + (y + 1) / 2 * (map["max"] - map["min"])
        case "quantile":
            return between(map["knots"], (cdf(y) - 1e-6) / (1 - 2e-6))
        case "gpd":
            above = cdf(-y)
            log = np.log(np.clip(above / 0.05, np.finfo(float).tiny, 1))
            law = -log if abs(map["shape"]) < 1e-9 else np.expm1(-map["shape"] * log) / map["shape"]
            tail = np.minimum(map["knots"][-1] + map["scale"] * law, SINGLE.max)
            return np.where(above < 0.05, tail, between(map["knots"], (1 - above - 1e-6) / (0.95 - 1e-6)))
        case other:
            raise ValueError(f"unknown map `{other}`")


def between(knots, p):
    return np.interp(p, np.linspace(0, 1, len(knots)), knots)


def dijet(raw):
    """The raw coordinates of two jets, [events, 7], to their features; the sign of phi is not among them."""

    def edge(index, scale, limit):
        with np.errstate(divide="ignore"):
            return np.minimum(-scale * np.log(cdf(-raw[:, index])), limit)

    pt2 = 250 * np.exp(edge(0, 0.23, 4.05))
    pt1 = pt2 * np.exp(edge(1, 0.11, 4.05))
    m1, m2 = (np.maximum(np.exp(np.clip(raw[:, i], -12, 1)) * pt - 1, 0) for i, pt in ((2, pt1), (3, pt2)))
    eta1, eta2 = (2.5001 * (2 * cdf(g) - 1) for g in (raw[:, 5] + raw[:, 6], raw[:, 5] - raw[:, 6]))
    return dict(zip(DIJET, [pt1, eta1, m1, pt2, eta2, math.pi - edge(4, 0.15, math.pi), m2]))


def pair(jets):
    """Momentum and energy of two jets together, jet 1 at phi 0."""
    pt1, eta1, m1, pt2, eta2, phi, m2 = (jets[name] for name in DIJET)
    energy = np.hypot(pt1 * np.cosh(eta1), m1) + np.hypot(pt2 * np.cosh(eta2), m2)
    return pt1 + pt2 * np.cos(phi), pt2 * np.sin(phi), pt1 * np.sinh(eta1) + pt2 * np.sinh(eta2), energy


if __name__ == "__main__":
    path, count, target = sys.argv[1:]
    np.save(target, Model(path).sample(int(count), np.random.default_rng()))
