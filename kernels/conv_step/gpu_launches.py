"""Memory and launches of the training step of convolutional networks on a GPU, beyond those of ``mlp_step``.

For C convolutions: C forward, C - 1 backward and one update beyond the launches of the dense layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from fastplast_kernels.conv_step import gpu
from fastplast_kernels.conv_step.layers import ConvLayer
from fastplast_kernels.mlp_step import launches
from fastplast_kernels.mlp_step.gpu_tables import Convolutions, bucket_tables
from fastplast_kernels.mlp_step.launches import FUSED, Launch, Step, aligned, given
from fastplast_kernels.wasserstein import gpu as wasserstein

OUTPUTS, PIXELS, TERMS, WARPS = 16, 32, 16, 4  # of a program forward, and terms of a sum at a time
CHANNELS, BELOW_PIXELS, BELOW_TERMS, BELOW_WARPS = 16, 64, 16, 8  # of a program backward, and terms of a sum at a time
UPDATE_OUTPUTS, UPDATE_INPUTS, UPDATE_PIXELS, UPDATE_WARPS = 16, 16, 32, 4  # of a program that updates, at a time
POOLED_PIXELS, POOLED_WARPS = 32, 4  # the same from a pooled layer: with twice as many, registers spill on sm_80
MOST_POOL = 16  # side of a window whose pixels a byte numbers
# Registers of a thread: left to itself, the assembler keeps to fewer and spills.
UPDATE_OPTIONS = {**wasserstein.OPTIONS, "maxnreg": 248}


def convolutions_of(layers: Sequence[Any]) -> Convolutions | None:
    """What ``mlp_step.launches.allocate`` needs to know of convolutions below dense layers.

    Args:
        layers: convolutions, if any, then dense layers.

    Returns:
        Their description; None if there are none.

    Raises:
        ValueError: if the windows of a pooling have more pixels than a byte can tell apart, or those of layers above
            the first, which one kernel updates, have different sizes.
    """
    convolutions = [layer for layer in layers if isinstance(layer, ConvLayer)]
    rows = tuple(
        (
            layer.channels, layer.height, layer.width, layer.kernel, layer.stride, layer.padding,
            layer.out_height, layer.out_width,
        )
        for layer in convolutions
    )  # fmt: skip
    pools = {layer.pool for layer in convolutions}
    if len({layer.pool for layer in convolutions[1:]}) > 1:
        raise ValueError(f"pool must be the same above the first layer: got {sorted(pools)}. Use another engine.")
    if pools and max(pools) > MOST_POOL:
        raise ValueError(f"pool must be at most {MOST_POOL}: got {max(pools)}. Use another engine.")
    return Convolutions(rows, (UPDATE_OUTPUTS, UPDATE_INPUTS), pools != {1}, around) if rows else None


def around(step: Step) -> tuple[list[Launch], list[Launch]]:
    """What convolutions launch.

    Args:
        step: of which update.

    Returns:
        Forward, before the launches of the dense layers; backward and update, before the update of these.
    """
    forward = [_forward(step, layer) for layer in range(step.convolutions)]
    backward = [_backward(step, layer) for layer in reversed(range(1, step.convolutions))]
    return forward, [*backward, _update(step)]


def _forward(step: Step, number: int) -> Launch:
    layer = step.layers[number]
    constants = {
        "FIRST": number == 0, "PERMUTED": step.pixels is not None, "ALIGNED": aligned([layer]), "BATCH": step.batch,
        "KERNEL": layer.kernel, "POOL": layer.pool, "BN": OUTPUTS, "BP": PIXELS, "BK": TERMS,
        "PRECISION": step.precision,
    }  # fmt: skip
    tiles = ceil(layer.outputs / OUTPUTS) * ceil(step.batch * layer.pixels / PIXELS)
    arguments = given(step, gpu.forward_kernel, layer=number)
    return Launch(gpu.forward_kernel, (tiles, len(step.params)), arguments, constants, WARPS, FUSED)


def below(layer: ConvLayer) -> tuple[int, int]:
    """Pixels and warps of a program backward from a layer."""
    return (BELOW_PIXELS, BELOW_WARPS) if layer.pool == 1 else (POOLED_PIXELS, POOLED_WARPS)


def _backward(step: Step, number: int) -> Launch:
    layer = step.layers[number]
    at_once, warps = below(layer)
    constants = {
        "BATCH": step.batch, "KERNEL": layer.kernel, "STRIDE": layer.stride, "POOL": layer.pool, "BN": CHANNELS,
        "BP": at_once, "BK": BELOW_TERMS, "PRECISION": step.precision,
    }  # fmt: skip
    pixels = ceil(layer.height / layer.stride) * ceil(layer.width / layer.stride)
    tiles = layer.stride**2 * ceil(layer.channels / CHANNELS) * ceil(step.batch * pixels / at_once)
    arguments = given(step, gpu.backward_kernel, layer=number)
    return Launch(gpu.backward_kernel, (tiles, len(step.params)), arguments, constants, warps, FUSED)


def _update(step: Step) -> Launch:
    first, *others = step.layers[: step.convolutions]
    constants = {
        **launches.update_constants(step), "FIRST_ALIGNED": aligned([first]), "ALIGNED": aligned(others),
        "FIRST_POOL": first.pool, "POOL": others[0].pool if others else 1,
        "BO": UPDATE_OUTPUTS, "BI": UPDATE_INPUTS, "BP": UPDATE_PIXELS,
    }  # fmt: skip
    arguments = given(step, gpu.update_kernel, **bucket_tables(step))
    grid = (step.first_tile, len(step.params))
    return Launch(gpu.update_kernel, grid, arguments, constants, UPDATE_WARPS, UPDATE_OPTIONS)
