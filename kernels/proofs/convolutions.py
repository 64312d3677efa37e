"""How the kernels of ``gpu_conv`` are launched for images 3 x 32 x 32 and minibatches of 16, for their budgets.

By the network of the paper, and by the ConvNet of Continual ImageNet, which has max pooling.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import Any

from fastplast_kernels.proofs.budgets import Configuration
from fastplast_kernels.proofs.perceptrons import MODIFIED, configuration, dense_layers, zero_step
from fastplast_kernels.train_step.gpu_conv_launches import convolutions_of
from fastplast_kernels.train_step.launches import Step, launches
from fastplast_kernels.train_step.layers import ConvLayer, DenseLayer

SHAPE, CHANNELS, WIDTHS = (3, 32, 32), (16, 32, 64), (64, 32, 10)
POOLED_CHANNELS, POOLED_WIDTHS = (32, 64, 128), (128, 128, 2)


def conv_layers(
    shape: tuple[int, int, int] = SHAPE,
    channels: tuple[int, ...] = CHANNELS,
    widths: tuple[int, ...] = WIDTHS,
    pooled: bool = False,
    modified: bool = False,
) -> tuple[tuple[ConvLayer | DenseLayer, ...], int]:
    """Convolutions, then dense layers, one behind the other in a row of parameters, and the length of the row.

    Convolutions are of 3x3 with stride 2, or, pooled, of 5x5, then 3x3, with max pooling of 2. Modified layers are
    those of ``proofs.perceptrons.MODIFIED``.
    """
    change = MODIFIED["modified"] if modified else {"activation": "relu", "norm": False, "dropout": 0.0}
    layers, end = [], 0

    def place(count: int) -> int:
        nonlocal end
        start, end = end, -(-(end + count) // 16) * 16
        return start

    for number, outputs in enumerate(channels):
        kernel, stride, padding, pool = (3 if number else 5, 1, 0, 2) if pooled else (3, 2, 1, 1)
        weights = kernel**2 * shape[0] * outputs
        places, pull = (place(weights), place(outputs)), 1.0 / weights
        norms = (place(outputs), place(outputs)) if change["norm"] else (-1, -1)
        rule = (change["activation"], 0.0, pull, pool, *norms, change["dropout"], number)
        layers.append(ConvLayer(*shape, outputs, kernel, stride, padding, *places, *rule))
        shape = layers[-1].shape_above
    dense, end = dense_layers((prod(shape), *widths), end=end, **change)
    return (*layers, *dense), end


def step_of(pooled: bool = False, modified: bool = False, **options: Any) -> Step:
    """A step of the network of the paper for inputs of zeros and weights of zeros.

    Args:
        pooled: of the ConvNet instead.
        modified: with all that modifies layers.
        options: of ``proofs.perceptrons.zero_step``.

    Returns:
        The step.
    """
    shape = (POOLED_CHANNELS, POOLED_WIDTHS) if pooled else (CHANNELS, WIDTHS)
    layers, size = conv_layers(SHAPE, *shape, pooled, modified)
    return zero_step(layers, size, prod(SHAPE), below=convolutions_of(layers), **options)


def _all() -> dict[str, Configuration]:
    last, backward, update = len(CHANNELS) - 1, -len(CHANNELS) - 1, -2  # of convolutions, in the order of launches
    plain, fast, pooled = (launches(step_of(**options)) for options in ({}, {"precision": "tf32"}, {"pooled": True}))
    found = {
        "forward_first": plain[0], "forward": plain[last], "backward": plain[backward], "forward_tf32": fast[last],
        "forward_first_pooled": pooled[0], "forward_pooled": pooled[last], "backward_pooled": pooled[backward],
    }  # fmt: skip
    for optimizer, pull in product(("adam", "sgd"), ("none", "zero", "target", "ranked")):
        name = "_".join(["update", *(["sgd"] if optimizer == "sgd" else []), *([pull] if pull != "none" else [])])
        found[name] = launches(step_of(optimizer=optimizer, pull=pull))[update]
    for suffix, options in {"permuted": {"permuted": True}, "pooled": {"pooled": True}}.items():
        found[f"update_{suffix}_ranked"] = launches(step_of(pull="ranked", **options))[update]
    found |= {"update_pooled": pooled[update], "update_sgd_pooled": launches(step_of(True, optimizer="sgd"))[update]}
    for suffix, modified in {"": launches(step_of(modified=True)), "_pooled": launches(step_of(True, True))}.items():
        found |= {
            f"modify{suffix}": modified[1], f"modify_backward{suffix}": modified[-4],
            f"backward_modified{suffix}": modified[-5],
        }  # fmt: skip
        found["update_norms"] = modified[-2]
    return {f"conv_step/{name}": configuration(launch) for name, launch in found.items()}


CONFIGURATIONS = _all()
