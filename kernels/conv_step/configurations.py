"""How the kernels of `gpu` are launched for the network of the paper on images 3 x 32 x 32, minibatches of 16."""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

from fastplast_kernels.budgets import Configuration
from fastplast_kernels.conv_step.gpu_launches import convolutions_of
from fastplast_kernels.conv_step.layers import ConvLayer
from fastplast_kernels.mlp_step.configurations import configuration, dense_layers, zero_step
from fastplast_kernels.mlp_step.launches import Step, launches
from fastplast_kernels.mlp_step.layers import DenseLayer

SHAPE, CHANNELS, WIDTHS = (3, 32, 32), (16, 32, 64), (64, 32, 10)


def conv_layers(
    shape: tuple[int, int, int] = SHAPE, channels: tuple[int, ...] = CHANNELS, widths: tuple[int, ...] = WIDTHS
) -> tuple[tuple[ConvLayer | DenseLayer, ...], int]:
    """Convolutions 3x3 of stride 2, then dense layers, one behind the other in a row of parameters, and its length."""
    layers, end = [], 0
    for outputs in channels:
        weights = 9 * shape[0] * outputs
        bias = -(-(end + weights) // 16) * 16
        layers.append(ConvLayer(*shape, outputs, 3, 2, 1, end, bias, "relu", 0.0, 1.0 / weights))
        end = -(-(bias + outputs) // 16) * 16
        shape = (outputs, layers[-1].out_height, layers[-1].out_width)
    dense, end = dense_layers((shape[0] * shape[1] * shape[2], *widths), end=end)
    return (*layers, *dense), end


def step_of(**options: Any) -> Step:
    """A step of the network of the paper for inputs of zeros and weights of zeros.

    Args:
        options: of ``mlp_step.configurations.zero_step``.

    Returns:
        The step.
    """
    layers, size = conv_layers()
    return zero_step(layers, size, prod(SHAPE), below=convolutions_of(layers), **options)


def _all() -> dict[str, Configuration]:
    last, backward, update = len(CHANNELS) - 1, -len(CHANNELS) - 1, -2  # of convolutions, in the order of launches
    plain, fast = launches(step_of()), launches(step_of(precision="tf32"))
    found = {"forward_first": plain[0], "forward": plain[last], "backward": plain[backward], "forward_tf32": fast[last]}
    for optimizer, pull in product(("adam", "sgd"), ("none", "zero", "target", "ranked")):
        name = "_".join(["update", *(["sgd"] if optimizer == "sgd" else []), *([pull] if pull != "none" else [])])
        found[name] = launches(step_of(optimizer=optimizer, pull=pull))[update]
    found["update_permuted_ranked"] = launches(step_of(permuted=True, pull="ranked"))[update]
    return {f"conv_step/{name}": configuration(launch) for name, launch in found.items()}


CONFIGURATIONS = _all()
