"""How the kernels of `gpu` are launched for the network of the paper on images 3 x 32 x 32, minibatches of 16."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from fastplast_kernels.budgets import Configuration
from fastplast_kernels.conv_step import gpu_launches
from fastplast_kernels.conv_step.layers import ConvLayer
from fastplast_kernels.mlp_step.configurations import BATCH, configuration
from fastplast_kernels.mlp_step.launches import Step, launches
from fastplast_kernels.mlp_step.layers import DenseLayer

SHAPE, CHANNELS, WIDTHS = (3, 32, 32), (16, 32, 64), (64, 32, 10)


def conv_layers(
    shape: tuple[int, int, int] = SHAPE, channels: tuple[int, ...] = CHANNELS, widths: tuple[int, ...] = WIDTHS
) -> tuple[tuple[ConvLayer | DenseLayer, ...], int]:
    """Convolutions 3x3 of stride 2, then dense layers, one behind the other in a row of parameters, and its length."""
    layers, end = [], 0

    def places(weights: int, outputs: int) -> tuple[int, int]:
        nonlocal end
        weight, bias = end, -(-(end + weights) // 16) * 16
        end = -(-(bias + outputs) // 16) * 16
        return weight, bias

    for outputs in channels:
        inputs = 9 * shape[0]
        at = places(inputs * outputs, outputs)
        layers.append(ConvLayer(*shape, outputs, 3, 2, 1, *at, "relu", 0.0, 1.0 / (inputs * outputs)))
        shape = (outputs, layers[-1].out_height, layers[-1].out_width)
    inputs = shape[0] * shape[1] * shape[2]
    for number, outputs in enumerate(widths):
        at, kind = places(inputs * outputs, outputs), "relu" if number < len(widths) - 1 else "identity"
        layers.append(DenseLayer(inputs, outputs, *at, kind, 0.0, 1.0 / (inputs * outputs)))
        inputs = outputs
    return tuple(layers), end


def step_of(
    layers: tuple[ConvLayer | DenseLayer, ...] | None = None,
    pull: str = "none",
    permuted: bool = False,
    optimizer: str = "adam",
    precision: str = "ieee",
    members: int = 1,
    examples: int = 16,
) -> Step:
    """A step for inputs of zeros and weights of zeros.

    Args:
        layers: from `conv_layers`, one behind the other; those of the paper if None.
        pull: ``none``, ``zero``, ``target`` or ``ranked``.
        permuted: whether pixels are.
        optimizer: ``adam``, ``adamw`` or ``sgd``.
        precision: ``ieee`` or ``tf32``.
        members: M.
        examples: N.

    Returns:
        The step.
    """
    layers = layers or conv_layers()[0]
    size = -(-(layers[-1].bias + layers[-1].outputs) // 16) * 16
    first = layers[0]
    assert isinstance(first, ConvLayer)
    inputs = first.channels * first.height * first.width
    params = torch.zeros(members, size)
    numbers = torch.zeros(members, examples, dtype=torch.int64)
    data = SimpleNamespace(
        images=torch.zeros(examples, inputs, dtype=torch.uint8), rows=numbers, labels=numbers,
        pixels=torch.arange(inputs).repeat(members, 1) if permuted else None,
        scale=torch.ones(inputs), shift=torch.zeros(inputs),
    )  # fmt: skip
    anchor = {"none": None, "zero": params}.get(pull, torch.ones(members, size))
    order = torch.zeros(members, 1, BATCH, dtype=torch.int64)
    ranked = torch.full((members,), pull == "ranked")
    return gpu_launches.allocate(params, layers, data, order, optimizer, False, anchor, ranked, precision)


def _all() -> dict[str, Configuration]:
    plain = launches(step_of())
    ranked, fast = launches(step_of(permuted=True, pull="ranked")), launches(step_of(precision="tf32"))
    last, backward, update = len(CHANNELS) - 1, -len(CHANNELS) - 1, -2  # of convolutions, in the order of launches
    found = {
        "forward_first": plain[0], "forward": plain[last], "backward": plain[backward], "update": plain[update],
        "update_permuted_ranked": ranked[update], "forward_tf32": fast[last],
    }  # fmt: skip
    return {f"conv_step/{name}": configuration(launch) for name, launch in found.items()}


CONFIGURATIONS = _all()
