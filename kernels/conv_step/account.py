"""What an update of a convolutional network moves and multiplies, from the shapes of its launches."""

from __future__ import annotations

from math import ceil

from fastplast_kernels.conv_step import gpu_launches
from fastplast_kernels.mlp_step import account as dense
from fastplast_kernels.mlp_step.account import Cost
from fastplast_kernels.mlp_step.launches import Step


def account(step: Step) -> dict[str, Cost]:
    """Costs of an update by launch, per member, beside those of ``mlp_step.account``.

    Args:
        step: of which update.

    Returns:
        Launch to cost, in order.
    """
    numbers, rest = range(step.convolutions), dense.account(step)
    update = rest.pop("update")
    forward = {f"convolution {n} forward": _forward(step, n) for n in numbers}
    backward = {f"convolution {n} backward": _backward(step, n) for n in reversed(numbers[1:])}
    return {**forward, **rest, **backward, "convolutions update": _update(step), "update": update}


def _entering(step: Step, number: int) -> int:
    layer = step.layers[number]
    values = layer.channels * layer.height * layer.width
    return 4 * step.batch * values if number else dense.image_bytes(step, values)


def _leaving(step: Step, number: int) -> int:
    return 4 * step.batch * step.layers[number].outputs * step.layers[number].pixels


def _flops(step: Step, number: int) -> int:
    layer = step.layers[number]
    return 2 * step.batch * layer.pixels * layer.inputs * layer.outputs


def _forward(step: Step, number: int) -> Cost:
    layer = step.layers[number]
    programs = ceil(layer.outputs / gpu_launches.OUTPUTS) * ceil(step.batch * layer.pixels / gpu_launches.PIXELS)
    moved = _entering(step, number) + _leaving(step, number) + 16 * step.batch
    return Cost(4 * layer.count, moved, _flops(step, number), programs, ceil(layer.inputs / gpu_launches.TERMS))


def _backward(step: Step, number: int) -> Cost:
    layer, below = step.layers[number], _entering(step, number)
    phases = layer.stride**2
    pixels = ceil(layer.height / layer.stride) * ceil(layer.width / layer.stride)
    tiles = ceil(layer.channels / gpu_launches.CHANNELS) * ceil(step.batch * pixels / gpu_launches.BELOW_PIXELS)
    terms = ceil(layer.outputs / gpu_launches.BELOW_TERMS)
    turns, longest = layer.kernel**2 / phases * terms, ceil(layer.kernel / layer.stride) ** 2 * terms
    moved = _leaving(step, number) + 2 * below  # gradients D of the layer; values below, and their D
    state = 4 * layer.inputs * layer.outputs
    return Cost(state, moved, _flops(step, number), phases * tiles, turns, longest)


def _update(step: Step) -> Cost:
    numbers, tiles = range(step.convolutions), step.tiles[: step.first_tile, 0].tolist()
    turns = [1 + ceil(step.batch * step.layers[n].pixels / gpu_launches.UPDATE_PIXELS) for n in numbers]
    moved = sum(_entering(step, n) + _leaving(step, n) for n in numbers) + 16 * len(tiles) + 8 * step.batch
    state, flops = dense.state_bytes(step, step.layers[: step.convolutions]), sum(_flops(step, n) for n in numbers)
    return Cost(state, moved, flops, len(tiles), sum(turns[n] for n in tiles) / len(tiles), max(turns))
