"""Writes tests/reference/optimizers.json: 20 steps of PyTorch's optimisers on sum(a x^2) from (1, -2, 3)."""
import json
import pathlib

import torch

CURVATURE = torch.tensor([0.5, 1.0, 2.0])
OPTIMISERS = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.5, 0.9), eps=1e-8),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.05, alpha=0.9, eps=1e-8, momentum=0.3),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
}


def minimise(make):
    x = torch.tensor([1.0, -2.0, 3.0], requires_grad=True)
    optimiser = make([x])
    for _ in range(20):
        optimiser.zero_grad()
        (CURVATURE * x**2).sum().backward()
        optimiser.step()
    return x.detach().double().tolist()


values = {name: minimise(make) for name, make in OPTIMISERS.items()}
path = pathlib.Path(__file__).parents[2] / "tests/reference/optimizers.json"
path.write_text(json.dumps(values, indent=1) + "\n")
