"""Memory and launches of the training step of convolutional networks on a GPU, beyond those of perceptrons.

For C convolutions: C forward, C - 1 backward and one update beyond the launches of the dense layers. One with layer
normalisation, CReLU or dropout has one more forward and one more backward; of the normalised ones all have one update.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any

from fastplast_kernels.constants import CODES
from fastplast_kernels.train_step import gpu_conv, gpu_conv_modifications, launches
from fastplast_kernels.train_step.gpu_arguments import Launch, aligned, bucket_tables, given
from fastplast_kernels.train_step.gpu_tables import Convolutions
from fastplast_kernels.train_step.launches import FUSED, Step
from fastplast_kernels.train_step.layers import ConvLayer
from fastplast_kernels.wasserstein import gpu as wasserstein

OUTPUTS, PIXELS, WARPS = 16, 32, 4  # of a program forward
FIRST_TERMS, TERMS = 16, 32  # of its sums at a time, in the first layer, where with more registers spill, and above
CHANNELS, BELOW_PIXELS, BELOW_TERMS, BELOW_WARPS = 16, 64, 16, 8  # of a program backward, and terms of a sum at a time
UPDATE_OUTPUTS, UPDATE_INPUTS, UPDATE_PIXELS, UPDATE_WARPS = 16, 32, 32, 4  # of a program that updates, at a time
# Where registers would spill otherwise: backward from a pooled layer; in the update, inputs if a layer is pooled (a
# thread has two weights then, of 8 bytes and not 16), and pixels of the first layer if those of images are permuted.
POOLED_PIXELS, POOLED_WARPS, POOLED_INPUTS, PERMUTED_PIXELS = 32, 4, 16, 16
EXAMPLE_CHANNELS, EXAMPLE_PIXELS, EXAMPLE_WARPS = 16, 32, 4  # at a time of what modifies an example
MOST_POOL = 16  # side of a window whose pixels a byte numbers
# Registers of a thread: left to itself, the assembler keeps to fewer and spills.
UPDATE_OPTIONS = {**wasserstein.OPTIONS, "maxnreg": 255}
EXAMPLE_OPTIONS = {**FUSED, "maxnreg": 208}


def convolutions_of(layers: Sequence[Any]) -> Convolutions | None:
    """What ``launches.allocate`` needs to know of convolutions below dense layers.

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
    windows = [_windows(layer) for layer in convolutions]
    if len(set(windows[1:])) > 1:
        raise ValueError(f"pool must be the same above the first layer: got {sorted(pools)}. Use another engine.")
    if pools and max(pools) > MOST_POOL:
        raise ValueError(f"pool must be at most {MOST_POOL}: got {max(pools)}. Use another engine.")
    tile = UPDATE_OUTPUTS, UPDATE_INPUTS if set(windows) == {1} else POOLED_INPUTS
    return Convolutions(rows, tile, pools != {1}, around) if rows else None


def _windows(layer: ConvLayer) -> int:
    """Side of the windows of the pooling that a layer's products know of: what is modified is pooled afterwards."""
    return 1 if layer.modified else layer.pool


def around(step: Step) -> tuple[list[Launch], list[Launch]]:
    """What convolutions launch.

    Args:
        step: of which update.

    Returns:
        Forward, before the launches of the dense layers; backward and update, before the update of these.
    """
    forward, backward = [], []
    for number in range(step.convolutions):
        forward.append(_forward(step, number))
        if step.layers[number].modified:
            forward.append(_modify(step, number, gpu_conv_modifications.forward_kernel))
    for number in reversed(range(step.convolutions)):
        if step.layers[number].modified:
            backward.append(_modify(step, number, gpu_conv_modifications.backward_kernel))
        if number:
            backward.append(_backward(step, number))
    return forward, [*backward, _update(step), *_update_norms(step)]


def _modify(step: Step, number: int, kernel: Any) -> Launch:
    layer = step.layers[number]
    constants = {
        "NORM": layer.normed, "CODE": CODES[layer.activation], "DROPOUT": layer.dropout > 0, "POOL": layer.pool,
        "BATCH": step.batch, "BO": EXAMPLE_CHANNELS, "BP": EXAMPLE_PIXELS,
    }  # fmt: skip
    grid = (step.batch, len(step.params))
    return Launch(kernel, grid, given(step, kernel, layer=number), constants, EXAMPLE_WARPS, EXAMPLE_OPTIONS)


def _pixels(layer: ConvLayer) -> int:
    """Of an output channel, as the product leaves it."""
    return layer.positions if layer.modified else layer.pixels


def terms_at_once(number: int) -> int:
    """Terms of a sum at a time in a program forward of a layer."""
    return TERMS if number else FIRST_TERMS


def _forward(step: Step, number: int) -> Launch:
    layer = step.layers[number]
    constants = {
        "FIRST": number == 0, "PERMUTED": step.pixels is not None, "ALIGNED": aligned([layer]), "BATCH": step.batch,
        "KERNEL": layer.kernel, "POOL": _windows(layer), "BN": OUTPUTS, "BP": PIXELS, "BK": terms_at_once(number),
        "PRECISION": step.precision,
    }  # fmt: skip
    tiles = ceil(layer.outputs / OUTPUTS) * ceil(step.batch * _pixels(layer) / PIXELS)
    arguments = given(step, gpu_conv.forward_kernel, layer=number)
    return Launch(gpu_conv.forward_kernel, (tiles, len(step.params)), arguments, constants, WARPS, FUSED)


def below(layer: ConvLayer) -> tuple[int, int]:
    """Pixels and warps of a program backward from a layer."""
    return (BELOW_PIXELS, BELOW_WARPS) if layer.pool == 1 else (POOLED_PIXELS, POOLED_WARPS)


def _backward(step: Step, number: int) -> Launch:
    layer = step.layers[number]
    at_once, warps = below(layer)
    constants = {
        "BATCH": step.batch, "KERNEL": layer.kernel, "STRIDE": layer.stride, "POOL": _windows(layer), "BN": CHANNELS,
        "BP": at_once, "BK": BELOW_TERMS, "PRECISION": step.precision,
    }  # fmt: skip
    pixels = ceil(layer.height / layer.stride) * ceil(layer.width / layer.stride)
    tiles = layer.stride**2 * ceil(layer.channels / CHANNELS) * ceil(step.batch * pixels / at_once)
    arguments = given(step, gpu_conv.backward_kernel, layer=number)
    return Launch(gpu_conv.backward_kernel, (tiles, len(step.params)), arguments, constants, warps, FUSED)


def update_pixels(step: Step) -> tuple[int, int]:
    """Pixels at a time in the update of the first layer, and of those above."""
    assert step.below is not None
    narrow = step.pixels is not None and step.below.tile[1] == UPDATE_INPUTS
    return PERMUTED_PIXELS if narrow else UPDATE_PIXELS, UPDATE_PIXELS


def _update(step: Step) -> Launch:
    first, *others = step.layers[: step.convolutions]
    assert step.below is not None
    (outputs, inputs), (first_pixels, pixels) = step.below.tile, update_pixels(step)
    constants = {
        **launches.update_constants(step), "FIRST_ALIGNED": aligned([first]), "ALIGNED": aligned(others),
        "FIRST_POOL": _windows(first), "POOL": _windows(others[0]) if others else 1,
        "BO": outputs, "BI": inputs, "FIRST_BP": first_pixels, "BP": pixels,
    }  # fmt: skip
    arguments = given(step, gpu_conv.update_kernel, **bucket_tables(step))
    grid = (step.first_tile - _norm_tiles(step), len(step.params))
    return Launch(gpu_conv.update_kernel, grid, arguments, constants, UPDATE_WARPS, UPDATE_OPTIONS)


def _norm_tiles(step: Step) -> int:
    """Tiles of scales and shifts of convolutions: the last of theirs."""
    normed = [layer for layer in step.layers[: step.convolutions] if layer.normed]
    return sum(ceil(layer.outputs / launches.UPDATE_OUTPUTS) for layer in normed)


def _update_norms(step: Step) -> list[Launch]:
    if not (tiles := _norm_tiles(step)):
        return []
    kernel = gpu_conv_modifications.update_kernel
    constants = {"SGD": step.optimizer == "sgd", "BATCH": step.batch, "BO": launches.UPDATE_OUTPUTS}
    arguments = given(step, kernel, first_norm=step.first_tile - tiles)
    return [Launch(kernel, (tiles, len(step.params)), arguments, constants, 1, wasserstein.OPTIONS)]
