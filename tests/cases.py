"""The cases that tests of more than one room choose from, and how few of them meet every pair.

A fault lies in one part or where two parts meet, hardly ever only where three do. So what is cheap is tested in every
combination, and what is dear in combinations that together hold every pair of values: `every_pair`.
"""

from __future__ import annotations

from itertools import combinations, product

# What a layer may be: fields of an experiment. Those without a kink are alike in all derivatives: two trainings that
# differ by rounding errors stay as near as their first differences say. At a kink they may take different sides.
KINDS = {
    "relu": {"activation": "relu"},
    "leaky_relu": {"activation": "leaky_relu"},
    "tanh": {"activation": "tanh"},
    "identity": {"activation": "identity"},
    "crelu": {"activation": "crelu"},  # twice as many outputs as units
    "layer norm": {"activation": "tanh", "layer_norm": True},
    "dropout": {"activation": "relu", "dropout": 0.3},
    "all": {"activation": "crelu", "layer_norm": True, "dropout": 0.2},
}
SMOOTH = ("tanh", "identity", "layer norm")
NETWORKS = ("mlp", "mlp13", "cnn", "convnet")  # few and many layers, strided convolutions, convolutions with pooling
POOLED = ("convnet",)  # a maximum has kinks too

# Trainings of hundreds of updates: each network with each optimiser, each kind at least once.
LONG = [
    ("mlp", "tanh", "adam"),
    ("mlp", "dropout", "adamw"),
    ("mlp", "layer norm", "sgd"),
    ("mlp13", "identity", "adam"),
    ("mlp13", "tanh", "adamw"),
    ("mlp13", "relu", "sgd"),
    ("cnn", "layer norm", "adam"),
    ("cnn", "leaky_relu", "adamw"),
    ("cnn", "all", "sgd"),
    ("convnet", "crelu", "adam"),
    ("convnet", "relu", "adamw"),
    ("convnet", "tanh", "sgd"),
]


def every_pair(*axes: object) -> list[tuple]:
    """Few combinations of one value of each axis, in which any two values of different axes come together.

    Each is the combination, first in order among equals, that brings most pairs that have not come yet.
    """
    axes = tuple(tuple(axis) for axis in axes)  # type: ignore[arg-type]
    left = {(i, a, j, b) for i, j in combinations(range(len(axes)), 2) for a in axes[i] for b in axes[j]}
    rows, cases = list(product(*axes)), []
    while left:
        brought = [{(i, a, j, b) for (i, a), (j, b) in combinations(enumerate(row), 2)} & left for row in rows]
        best = max(range(len(rows)), key=lambda k: len(brought[k]))
        cases.append(rows[best])
        left -= brought[best]
    return cases
