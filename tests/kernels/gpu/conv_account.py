"""What an update of a convolutional network moves and multiplies, from the shapes of its launches."""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import mlp_account as dense
from fastplast_kernels.train_step import gpu_conv_launches as gpu_launches
from fastplast_kernels.train_step.launches import Step
from mlp_account import Cost, entering, flops, leaving, update_cost


def account(step: Step) -> dict[str, Cost]:
    """Costs of an update by launch, per member, beside those of ``mlp_account.account``.

    Args:
        step: of which update.

    Returns:
        Launch to cost, in order.

    Raises:
        ValueError: if a convolution is normalised, its activation is ``crelu`` or it has dropout.
    """
    if any(layer.modified for layer in step.layers[: step.convolutions]):
        raise ValueError("convolutions must be plain: got normalisation, crelu or dropout. Take a network without.")
    numbers, rest = range(step.convolutions), dense.account(step)
    update = rest.pop("update")
    forward = {f"convolution {n} forward": _forward(step, n) for n in numbers}
    backward = {f"convolution {n} backward": _backward(step, n) for n in reversed(numbers[1:])}
    return {**forward, **rest, **backward, "convolutions update": _update(step), "update": update}


def _forward(step: Step, number: int) -> Cost:
    layer = step.layers[number]
    programs = ceil(layer.outputs / gpu_launches.OUTPUTS) * ceil(step.batch * layer.pixels / gpu_launches.PIXELS)
    moved = entering(step, number) + leaving(step, number) + _winners(step, number) + 16 * step.batch
    turns = layer.pool**2 * ceil(layer.inputs / gpu_launches.terms_at_once(number))
    return Cost(4 * layer.count, moved, flops(step, number), programs, turns)


def _backward(step: Step, number: int) -> Cost:
    layer = step.layers[number]
    phases = layer.stride**2
    pixels = ceil(layer.height / layer.stride) * ceil(layer.width / layer.stride)
    tiles = ceil(layer.channels / gpu_launches.CHANNELS) * ceil(step.batch * pixels / gpu_launches.below(layer)[0])
    terms = ceil(layer.outputs / gpu_launches.BELOW_TERMS)
    turns, longest = layer.kernel**2 / phases * terms, ceil(layer.kernel / layer.stride) ** 2 * terms
    moved = leaving(step, number) + _winners(step, number)  # D of the layer
    moved += 2 * entering(step, number)  # values below, and their D
    state = 4 * layer.inputs * layer.outputs
    return Cost(state, moved, flops(step, number), phases * tiles, turns, longest)


def _update(step: Step) -> Cost:
    numbers, tiles = range(step.convolutions), step.tiles[: step.first_tile, 0].tolist()
    at_once = gpu_launches.update_pixels(step)
    turns = [1 + ceil(step.batch * step.layers[n].positions / at_once[n > 0]) for n in numbers]
    cost = update_cost(step, numbers, len(tiles), sum(turns[n] for n in tiles) / len(tiles), max(turns))
    return replace(cost, batch=cost.batch + sum(_winners(step, number) for number in numbers))


def _winners(step: Step, number: int) -> int:
    """Bytes that say where the maxima of a minibatch are."""
    layer = step.layers[number]
    return step.batch * layer.outputs * layer.pixels if layer.pool > 1 else 0
