"""How the kernels of ``train_step.gpu`` are launched for 784-128-64-32-10, minibatches of 16, for their budgets."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from fastplast_kernels.proofs.budgets import Configuration
from fastplast_kernels.train_step import launches
from fastplast_kernels.train_step.layers import DenseLayer

SIZES, BATCH = (784, 128, 64, 32, 10), 16
MODIFIED = {  # what the networks of the budgets have beside plain layers
    "dropout": {"dropout": 0.1},
    "modified": {"activation": "crelu", "norm": True, "dropout": 0.1},
}
_TYPES = {
    torch.float32: "*fp32", torch.float64: "*fp64", torch.int64: "*i64", torch.int32: "*i32", torch.uint8: "*u8"
}  # fmt: skip


def dense_layers(
    sizes: tuple[int, ...], activation: str = "relu", end: int = 0, norm: bool = False, dropout: float = 0.0
) -> tuple[tuple[DenseLayer, ...], int]:
    """Layers from `end` on in a row of parameters, each part at a multiple of 16, and the length of the row."""
    layers, inputs = [], sizes[0]

    def place(count: int) -> int:
        nonlocal end
        start, end = end, -(-(end + count) // 16) * 16
        return start

    for number, outputs in enumerate(sizes[1:]):
        hidden = number < len(sizes) - 2
        weight, bias = place(inputs * outputs), place(outputs)
        norms = (place(outputs), place(outputs)) if norm and hidden else (-1, -1)
        kind, rate = (activation, dropout) if hidden else ("identity", 0.0)
        pull = 1.0 / (inputs * outputs)
        layers.append(DenseLayer(inputs, outputs, weight, bias, kind, 0.0, pull, *norms, rate, number))
        inputs = layers[-1].width
    return tuple(layers), end


def step_of(
    sizes: tuple[int, ...] = SIZES, activation: str = "relu", norm: bool = False, dropout: float = 0.0, **options: Any
) -> launches.Step:
    """A step of a perceptron for inputs of zeros and weights of zeros.

    Args:
        sizes: widths, input to output.
        activation: of the hidden layers. So are the next two.
        norm: whether they are normalised.
        dropout: fraction of their activations that is dropped.
        options: of `zero_step`.

    Returns:
        The step.
    """
    return zero_step(*dense_layers(sizes, activation, 0, norm, dropout), sizes[0], **options)


def zero_step(
    layers: Sequence[Any],
    size: int,
    inputs: int,
    *,
    pull: str = "none",
    permuted: bool = False,
    optimizer: str = "adam",
    precision: str = "ieee",
    members: int = 1,
    examples: int = 16,
    below: launches.Convolutions | None = None,
) -> launches.Step:
    """A step of any network for inputs of zeros and weights of zeros.

    Args:
        layers: one behind the other.
        size: P.
        inputs: pixels of an image.
        pull: ``none``, ``zero``, ``target`` or ``ranked``.
        permuted: whether pixels are.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        precision: ``ieee`` or ``tf32``.
        members: M.
        examples: N.
        below: of the first layers, if they are convolutions.

    Returns:
        The step.
    """
    params = torch.zeros(members, size)
    numbers = torch.zeros(members, examples, dtype=torch.int64)
    data = SimpleNamespace(
        images=torch.zeros(1, inputs, dtype=torch.uint8), rows=numbers, labels=numbers,
        pixels=torch.arange(inputs).repeat(members, 1) if permuted else None,
        scale=torch.ones(inputs), shift=torch.zeros(inputs),
    )  # fmt: skip
    anchor = {"none": None, "zero": params}.get(pull, torch.ones(members, size))
    order = torch.zeros(members, 1, BATCH, dtype=torch.int64)
    ranked = torch.full((members,), pull == "ranked")
    keys = torch.zeros(members, 2, dtype=torch.int64)
    return launches.allocate(params, layers, data, order, optimizer, False, anchor, ranked, precision, below, keys)


def configuration(launch: launches.Launch) -> Configuration:
    """What is compiled for a launch."""
    signature, aligned = {}, []
    for name, value in launch.arguments.items():
        signature[name] = _TYPES[value.dtype] if isinstance(value, torch.Tensor) else "i32"
        # As a launch finds them: a GPU's memory is aligned, and the strides here are multiples of 16 if even one is.
        if isinstance(value, torch.Tensor) or (name.endswith("_stride") and value % 16 == 0):
            aligned.append(name)
    return Configuration(launch.kernel, signature, launch.constants, launch.num_warps, tuple(aligned), launch.options)


def _all() -> dict[str, Configuration]:
    found = {}
    variants = {
        "": {}, "_permuted_ranked": {"permuted": True, "pull": "ranked"}, "_tf32": {"precision": "tf32"},
        "_sgd": {"optimizer": "sgd", "pull": "zero"},
    }  # fmt: skip
    for suffix, options in variants.items():
        forward, tail, update = launches.launches(step_of(**options))
        if suffix != "_tf32":  # gradients of weights are made in float32
            found[f"mlp_step/update{suffix}"] = configuration(update)
        if suffix != "_sgd":
            found[f"mlp_step/forward{suffix.removesuffix('_ranked')}"] = configuration(forward)
        if not suffix:
            found["mlp_step/tail"] = configuration(tail)
    wide = launches.launches(step_of((784, 512, 512, 10)))
    found |= {"mlp_step/forward_wide": configuration(wide[1]), "mlp_step/backward_wide": configuration(wide[3])}
    for suffix, options in MODIFIED.items():
        forward, tail, update = launches.launches(step_of(**options))
        found |= {
            f"mlp_step/{name}_{suffix}": configuration(launch)
            for name, launch in (("forward", forward), ("tail", tail))
        }
        if "norm" in options:
            found[f"mlp_step/update_{suffix}"] = configuration(update)
    wide = launches.launches(step_of((784, 512, 512, 10), **MODIFIED["modified"]))
    names = {1: "normalise", 4: "backward_modified", 5: "normalise_backward"}
    return found | {f"mlp_step/{name}": configuration(wide[place]) for place, name in names.items()}


CONFIGURATIONS = _all()
