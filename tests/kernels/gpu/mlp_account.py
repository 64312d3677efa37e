"""What an update of `launches` moves and multiplies, from the shapes of its launches, and an estimate of its time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from fastplast_kernels.train_step import launches
from fastplast_kernels.train_step.gpu_parts import PULL_TO_TARGET
from fastplast_kernels.train_step.gpu_tables import switches
from fastplast_kernels.train_step.launches import Step
from fastplast_kernels.wasserstein.buckets import bytes_per_weight

# An NVIDIA H100 SXM as assumed: bytes and float32 operations a second that kernels reach, multiprocessors, programs
# resident on each, seconds between two launches of a graph, and seconds of a turn of a loop that waits for memory.
BANDWIDTH, FLOPS, PROCESSORS, RESIDENT, GAP, TURN = 3.0e12, 40e12, 132, 2, 1.0e-6, 0.7e-6


@dataclass(frozen=True)
class Cost:
    """Of one launch, for one member.

    Attributes:
        state: distinct bytes read, and written, of parameters, moments and target.
        batch: of the minibatch: images, values, gradients D, partial sums. Caches may hold them between launches.
        flops: of products of matrices.
        programs: of the launch.
        turns: loop turns, one after the other, that a program waits for memory in; in the mean of the programs.
        longest: the most of a program; 0 where all have as many.
    """

    state: int
    batch: int
    flops: int
    programs: int
    turns: float
    longest: int = 0

    @property
    def bytes(self) -> int:
        """All of them."""
        return self.state + self.batch


def account(step: Step) -> dict[str, Cost]:
    """Costs of an update by launch of dense layers, per member; small tables and what ranks take are left out.

    Args:
        step: of which update.

    Returns:
        Launch to cost, in order.

    Raises:
        ValueError: if a layer is normalised or its activation is ``crelu``: what these move is not accounted for.
    """
    modified = [name for name in ("NORM", "CRELU") if switches(step.layers)[name]]
    if modified:
        raise ValueError(f"layers must be plain or have dropout: got {', '.join(modified)}. Take a network without.")
    layers, batch, first = step.layers, step.batch, step.first
    weights = [layer.inputs * layer.outputs for layer in layers]
    numbers = range(len(layers))
    read = [4 * layer.count for layer in layers]  # weights and biases
    out, products = ([of(step, number) for number in numbers] for of in (leaving, flops))
    costs = {}
    for number in range(step.convolutions, first):
        moved = entering(step, number) + out[number] + 16 * batch
        programs = ceil(layers[number].outputs / launches.FIRST_OUTPUTS)
        turns = ceil(layers[number].inputs / launches.FIRST_INPUTS)
        costs[f"forward {number}"] = Cost(read[number], moved, products[number], programs, turns)
    tail = range(first, len(layers))
    moved = 2 * sum(out[first - 1 :]) + 2 * sum(out[first:])  # values and gradients D, read and written
    moved += 32 * batch + 16 * step.tiles.shape[0]  # order, rows, labels, images; partial sums
    turns = sum(_turns(step, number) for number in tail)
    costs["tail"] = Cost(sum(read[first:]), moved, sum(2 * products[n] for n in tail), 1, turns)
    for number in reversed(range(max(1, step.convolutions), first)):
        moved = out[number] + 2 * out[number - 1]
        turns = ceil(layers[number].outputs / launches.TAIL_INPUTS)
        programs = ceil(layers[number].inputs / launches.TAIL_OUTPUTS)
        costs[f"backward {number}"] = Cost(4 * weights[number], moved, products[number], programs, turns)
    tiles = step.tiles.shape[0] - step.first_tile
    costs["update"] = update_cost(step, numbers[step.convolutions :], tiles, 1 + ceil(batch / 8))
    return costs


def entering(step: Step, number: int) -> int:
    """Bytes of what a layer reads of a minibatch: values of the one below, or images and their tables."""
    if number:
        return leaving(step, number - 1)
    return step.images.shape[1] * (step.batch * step.images.element_size() + 8 + 8 * (step.pixels is not None))


def leaving(step: Step, number: int) -> int:
    """Bytes of a layer's values for a minibatch."""
    return 4 * step.batch * step.layers[number].outputs * step.layers[number].pixels


def flops(step: Step, number: int) -> int:
    """Of one product with a layer's weights."""
    layer = step.layers[number]
    return 2 * step.batch * layer.positions * layer.inputs * layer.outputs


def update_cost(step: Step, numbers: Sequence[int], tiles: int, turns: float, longest: int = 0) -> Cost:
    """Of the launch that updates these layers, in so many tiles; `turns` and `longest` are those of `Cost`."""
    layers = [step.layers[number] for number in numbers]
    state = (16 if step.optimizer == "sgd" else 24) * sum(layer.count for layer in layers)
    state += 4 * sum(layer.inputs * layer.outputs for layer in layers) if step.pull == PULL_TO_TARGET else 0
    moved = sum(entering(step, n) + leaving(step, n) for n in numbers) + 16 * tiles + 8 * step.batch
    return Cost(state, moved, sum(flops(step, n) for n in numbers), tiles, turns, longest)


def _turns(step: Step, number: int) -> int:
    """Of the tail: a layer forward and backward."""
    layer, examples = step.layers[number], ceil(step.batch / launches.EXAMPLES)
    out, terms = launches.TAIL_OUTPUTS, launches.TAIL_INPUTS
    forward = ceil(layer.outputs / out) * ceil(layer.inputs / terms)
    return examples * (forward + ceil(layer.inputs / out) * ceil(layer.outputs / terms))


def bytes_per_parameter(step: Step, costs: Mapping[str, Cost]) -> tuple[float, float]:
    """Of an update: those of the state and of ranks, and those of the minibatch, per parameter of a member."""
    state = float(sum(cost.state for cost in costs.values()))
    if step.buckets is not None:
        sizes = [layer.inputs * layer.outputs for layer in step.layers]
        state += sum(size * sum(bytes_per_weight(size).values()) for size in sizes)
    return state / step.count, sum(cost.batch for cost in costs.values()) / step.count


def estimate(costs: Mapping[str, Cost], members: int) -> dict[str, float]:
    """Estimated seconds of each launch on the machine assumed above; not a measurement.

    A launch takes the longest of three times: bytes, products, and its programs in turn.

    Args:
        costs: of which update.
        members: M.

    Returns:
        Launch to seconds, the gap between launches included.
    """
    seconds = {}
    for name, cost in costs.items():
        turns = max(ceil(cost.programs * members / (PROCESSORS * RESIDENT)) * cost.turns, cost.longest)
        seconds[name] = GAP + max(members * cost.bytes / BANDWIDTH, members * cost.flops / FLOPS, TURN * turns)
    return seconds


def table(step_of: Callable[..., Step], account: Callable[[Step], Mapping[str, Cost]] = account) -> str:
    """Markdown table of an account.

    Args:
        step_of: a step of the network with options of ``proofs.perceptrons.zero_step``.
        account: of its updates.

    Returns:
        The table.
    """
    rows = [
        "| optimiser, pull | launches | state, B/parameter | minibatch, B/parameter | M = 30, µs | M = 1000, µs |",
        "|---|---|---|---|---|---|",
    ]
    variants = {
        "adam, none": {}, "adam, to zero": {"pull": "zero"}, "adam, to a target": {"pull": "target"},
        "sgd, none": {"optimizer": "sgd"}, "adam, to a ranked target": {"pull": "ranked"},
    }  # fmt: skip
    for name, options in variants.items():
        step = step_of(**options)
        costs = account(step)
        state, batch = bytes_per_parameter(step, costs)
        times = [f" {1e6 * sum(estimate(costs, members).values()):,.0f} " for members in (30, 1000)]
        times = [" ", " "] if step.buckets is not None else times
        rows.append(f"| {name} | {step.launches} | {state:.1f} | {batch:.1f} |{'|'.join(times)}|")
    return "\n".join(rows)
