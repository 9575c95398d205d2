"""Draws events from a model that `pgan-pipe export --format safetensors` has written. Needs numpy and safetensors.

    python examples/load_model.py boosted.safetensors 10000 events.npy

or, in a program of your own:

    from load_model import Model
    model = Model("boosted.safetensors")
    events = model.sample(10000, numpy.random.default_rng(1))    # [events, model.columns], in physical units

docs/EXPORT.md describes the file.
"""

import json
import math
import sys

import numpy as np
from safetensors import safe_open

DIJET = ["ljet1_pt", "ljet1_eta", "ljet1_M", "ljet2_pt", "ljet2_eta", "ljet2_phi", "ljet2_M"]
LARGEST, SMALLEST = float(np.finfo(np.float32).max), float(np.finfo(np.float32).tiny)


class Model:
    def __init__(self, path):
        with safe_open(path, "np") as file:
            header = json.loads(file.metadata()["pgan_pipe"])
            self.tensors = {name: file.get_tensor(name) for name in file.keys()}
        if header["format"] != 1:
            raise ValueError(f"{path}: format {header['format']} is not 1")
        self.columns, self.uniforms, self.latent = header["columns"], header["uniforms"], header["latent"]
        self.components, self.ratios = header["model"]["components"], header["model"].get("ratios", [])
        description = header["model"]["description"]
        self.features, self.symmetries = description["features"], description["symmetries"]
        self.coordinates = description["coordinates"]

    def sample(self, count, rng):
        """Events of the model, [count, columns]."""
        kept, missing = [], count
        while missing > 0:
            z = rng.standard_normal((missing, self.latent), np.float32)
            u = rng.random((missing, len(self.uniforms)))
            events, inside, accepted = self.candidates(z, u)
            # An event outside of its component's windows is drawn again, from the same component.
            while not inside.all():
                again = np.flatnonzero(~inside)
                z[again] = rng.standard_normal((len(again), self.latent), np.float32)
                events[again], inside[again], accepted[again] = self.candidates(z[again], u[again])
            kept.append(events[accepted])
            missing -= len(kept[-1])
        return np.concatenate(kept)

    def candidates(self, z, u):
        """What random numbers make: events, whether each is inside of its windows, and whether it belongs to the sample."""
        u = dict(zip(self.uniforms, np.reshape(u, (len(z), -1)).T))
        rows, inside = self.mixture(z, u.get("component", np.zeros(len(z))))
        for index, columns in enumerate(self.symmetries):
            rows[:, columns] *= np.where(u[f"symmetry_{index}"] < 0.5, -1, 1)[:, None].astype(np.float32)
        negative = u["sign"] < 0.5 if "sign" in u else None
        values = self.observables(rows, self.columns, negative)
        probability = np.ones(len(z))
        for index, ratio in enumerate(self.ratios):
            if strata := ratio.get("strata"):
                stratum = np.searchsorted(strata["edges"], values[strata["observable"]], side="right")
                log = np.array(strata["log_factors"])[stratum]
            else:
                classifier = ratio["classifier"]
                log = self.net(f"ratios.{index}", classifier["layers"], self.seen(rows, classifier["derived"]))[:, 0]
            probability *= np.exp(np.minimum(log + ratio["offset"] - ratio["ceiling"], 0.0))
        accepted = inside & (u["accept"] < probability) if self.ratios else inside.copy()
        return np.stack([values[name] for name in self.columns], 1).astype(np.float32), inside, accepted

    def mixture(self, z, choice):
        ends = np.cumsum([component["weight"] for component in self.components[:-1]])
        chosen = np.searchsorted(ends, choice, side="right")
        rows, inside = np.empty((len(z), len(self.features)), np.float32), np.ones(len(z), bool)
        for index, component in enumerate(self.components):
            own = chosen == index
            inputs = component["layers"][0]["inputs"]
            rows[own] = self.net(f"components.{index}", component["layers"], z[own, :inputs])
            for window in component.get("windows", []):
                above = self.observables(rows[own], [window["observable"]])[window["observable"]] > window["cut"]
                inside[own] &= above == (window["side"] == "above")
        return rows, inside

    def net(self, prefix, layers, x):
        """A net on rows, in single precision."""
        for index, layer in enumerate(layers):
            own = {name: self.tensors.get(f"{prefix}.{index}.{name}") for name in ("weight", "bias", "scale", "shift")}
            match layer["layer"]:
                case "linear":
                    x = x @ own["weight"] + own["bias"]
                case "affine":
                    x = x * own["scale"] + own["shift"]
                case "leaky_relu":
                    x = np.maximum(x, np.float32(0.2) * x)
                case "tanh":
                    x = np.tanh(x)
                case "conv":
                    x = convolve(x, layer, own["weight"], own["bias"])
                case "conv_transpose":
                    x = convolve_transposed(x, layer, own["weight"], own["bias"])
                case other:
                    raise ValueError(f"unknown layer `{other}`")
        return x

    def physical(self, rows, negative=None):
        """Encoded rows as features in physical units, in double precision."""
        rows = rows.astype(float)
        if maps := self.coordinates.get("columns"):
            return {name: decode(map, rows[:, i]) for i, (name, map) in enumerate(zip(self.features, maps))}
        values = dijet(rows * self.coordinates["dijet"]["deviations"] + self.coordinates["dijet"]["means"])
        values["ljet2_phi"] = np.clip(values["ljet2_phi"], 0, 3.141592502593994)
        if negative is not None:
            values["ljet2_phi"] = np.where(negative, -values["ljet2_phi"], values["ljet2_phi"])
        for name in ("ljet1_eta", "ljet2_eta"):
            values[name] = np.clip(values[name], -2.499999761581421, 2.499999761581421)
        return values

    def observables(self, rows, names, negative=None):
        """Features in single precision, and derived observables of them."""
        values = {
            name: np.clip(value, -LARGEST, LARGEST).astype(np.float32).astype(float)
            for name, value in self.physical(rows, negative).items()
        }
        if any(name not in values for name in names):
            pair = pair_of(values | {name: np.clip(values[name], -20, 20) for name in ("ljet1_eta", "ljet2_eta")})
            pt = np.hypot(pair["x"], pair["y"])
            values = {
                "jj_pt": pt,
                "jj_eta": np.arcsinh(pair["z"] / np.maximum(pt, 1e-9)),
                "jj_M": np.sqrt(np.maximum(pair["energy"] ** 2 - pt**2 - pair["z"] ** 2, 0)),
            } | values
        return values

    def seen(self, rows, derived):
        """What a classifier sees: rows, and standardised logarithmic observables of the jet pair."""
        if not derived["names"]:
            return rows
        if maps := self.coordinates.get("columns"):
            values = {name: unbounded(map, rows[:, i].astype(float)) for i, (name, map) in enumerate(zip(self.features, maps))}
        else:
            values = dijet(rows.astype(float) * self.coordinates["dijet"]["deviations"] + self.coordinates["dijet"]["means"])
        pair = pair_of(values)
        pt2 = pair["x"] ** 2 + pair["y"] ** 2
        forms = {
            "jj_pt": np.log(pt2 + 25) / 2,
            "jj_eta": np.arcsinh(pair["z"] / np.sqrt(pt2 + 25)),
            "jj_M": np.log(np.maximum(pair["energy"] ** 2 - pair["z"] ** 2 - pt2, 1e4)) / 2,
        }
        names, means, deviations = derived["names"], derived["means"], derived["deviations"]
        standard = [(forms[name] - mean) / deviation for name, mean, deviation in zip(names, means, deviations)]
        return np.concatenate([rows, np.stack(standard, 1).astype(np.float32)], 1)


def images(x, layer):
    """Rows as images with their channels first, zeros appended."""
    x = x.reshape(len(x), layer["inputs"], layer["side"], layer["side"])
    return np.pad(x, ((0, 0), (0, 0), (0, layer["append"]), (0, layer["append"])))


def convolve(x, layer, weight, bias):
    pad, size = layer["padding"], layer["kernel"]
    x = np.pad(images(x, layer), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))
    out = np.einsum("nchwij,ocij->nohw", windows, weight.reshape(-1, layer["inputs"], size, size), optimize=True)
    return (out + bias.reshape(-1, 1, 1)).reshape(len(x), -1)


def convolve_transposed(x, layer, weight, bias):
    # A convolution with the kernel turned about.
    size, x = layer["kernel"], images(x, layer)
    turned = weight.reshape(layer["inputs"], -1, size, size)[:, :, ::-1, ::-1].swapaxes(0, 1)
    turned_layer = layer | {"side": x.shape[2], "append": 0, "padding": size - 1 - layer["padding"]}
    return convolve(x.reshape(len(x), -1), turned_layer, turned.reshape(len(turned), -1), bias)


@np.vectorize
def cdf(x):
    return math.erfc(-x / math.sqrt(2)) / 2


def decode(map, y):
    """A coordinate to a physical value."""
    match map["map"]:
        case "standard":
            return y * map["deviation"] + map["mean"]
        case "log":
            return np.clip(np.exp(y * map["deviation"] + map["mean"]), SMALLEST, LARGEST)
        case "min_max":
            return map["min"] + (y + 1) / 2 * (map["max"] - map["min"])
        case "quantile":
            return between(map["knots"], (cdf(y) - 1e-6) / (1 - 2e-6))
        case "gpd":
            bulk = between(map["knots"], (1 - cdf(-y) - 1e-6) / (0.95 - 1e-6))
            log = np.log(np.clip(cdf(-y) / 0.05, np.finfo(float).tiny, 1))
            small = abs(map["shape"]) < 1e-9
            excess = -map["scale"] * log if small else map["scale"] * np.expm1(-map["shape"] * log) / map["shape"]
            return np.where(cdf(-y) < 0.05, np.minimum(map["knots"][-1] + excess, LARGEST), bulk)
        case other:
            raise ValueError(f"unknown map `{other}`")


def between(knots, p):
    return np.interp(p, np.linspace(0, 1, len(knots)), knots)


def unbounded(map, y):
    """As classifiers decode."""
    return np.exp(np.minimum(y * map["deviation"] + map["mean"], 20)) if map["map"] == "log" else decode(map, y)


def dijet(raw):
    """The raw coordinates of two jets, [events, 7], to their features, the sign of phi positive."""
    with np.errstate(divide="ignore"):
        edge = lambda index, scale, limit: np.minimum(-scale * np.log(cdf(-raw[:, index])), limit)
        pt2 = 250 * np.exp(edge(0, 0.23, 4.05))
        pt1 = pt2 * np.exp(edge(1, 0.11, 4.05))
        phi = math.pi - edge(4, 0.15, math.pi)
    mass = lambda index, pt: np.maximum(np.exp(np.clip(raw[:, index], -12, 1)) * pt - 1, 0)
    eta = lambda g: 2.5001 * (2 * cdf(g) - 1)
    eta1, eta2 = eta(raw[:, 5] + raw[:, 6]), eta(raw[:, 5] - raw[:, 6])
    return dict(zip(DIJET, [pt1, eta1, mass(2, pt1), pt2, eta2, phi, mass(3, pt2)]))


def pair_of(jets):
    """Momentum and energy of two jets together, jet 1 at phi 0."""
    pt1, eta1, m1, pt2, eta2, phi, m2 = (jets[name] for name in DIJET)
    energy = np.hypot(pt1 * np.cosh(eta1), m1) + np.hypot(pt2 * np.cosh(eta2), m2)
    x, y, z = pt1 + pt2 * np.cos(phi), pt2 * np.sin(phi), pt1 * np.sinh(eta1) + pt2 * np.sinh(eta2)
    return {"x": x, "y": y, "z": z, "energy": energy}


if __name__ == "__main__":
    path, count, target = sys.argv[1:]
    np.save(target, Model(path).sample(int(count), np.random.default_rng()))
