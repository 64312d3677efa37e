"""What an update of `launches` moves and multiplies, from the shapes of its launches, and an estimate of its time."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from fastplast_kernels.mlp_step import launches
from fastplast_kernels.mlp_step.gpu_parts import PULL_TO_TARGET
from fastplast_kernels.mlp_step.launches import Step
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
        turns: loop turns, one after the other, that a program waits for memory in.
    """

    state: int
    batch: int
    flops: int
    programs: int
    turns: int

    @property
    def bytes(self) -> int:
        """All of them."""
        return self.state + self.batch


def account(step: Step) -> dict[str, Cost]:
    """Costs of an update by launch, per member; small tables and what ranks take are left out.

    Args:
        step: of which update.

    Returns:
        Launch to cost, in order.
    """
    layers, batch, first = step.layers, step.batch, step.first
    weights = [layer.inputs * layer.outputs for layer in layers]
    inputs = layers[0].inputs
    images = inputs * (batch * step.images.element_size() + 8 + 8 * (step.pixels is not None))  # scale and shift, too
    entering = [images, *(4 * batch * layer.inputs for layer in layers[1:])]
    leaving = [4 * batch * layer.outputs for layer in layers]
    products = [2 * batch * n for n in weights]
    costs = {}
    read = [4 * layer.count for layer in layers]  # weights and biases
    for number in range(first):
        moved = entering[number] + leaving[number] + 16 * batch
        programs = ceil(layers[number].outputs / launches.FIRST_OUTPUTS)
        turns = ceil(layers[number].inputs / launches.FIRST_INPUTS)
        costs[f"forward {number}"] = Cost(read[number], moved, products[number], programs, turns)
    tail = range(first, len(layers))
    moved = 2 * sum(leaving[first - 1 :]) + 2 * sum(leaving[first:])  # values and gradients D, read and written
    moved += 32 * batch + 16 * step.tiles.shape[0]  # order, rows, labels, images; partial sums
    turns = sum(_turns(step, number) for number in tail)
    costs["tail"] = Cost(sum(read[first:]), moved, sum(2 * products[n] for n in tail), 1, turns)
    for number in reversed(range(1, first)):
        moved = leaving[number] + 2 * leaving[number - 1]
        turns = ceil(layers[number].outputs / launches.TAIL_INPUTS)
        programs = ceil(layers[number].inputs / launches.TAIL_OUTPUTS)
        costs[f"backward {number}"] = Cost(4 * weights[number], moved, products[number], programs, turns)
    state = (16 if step.optimizer == "sgd" else 24) * step.count
    state += 4 * sum(weights) if step.pull == PULL_TO_TARGET else 0
    moved = sum(entering) + sum(leaving) + 16 * step.tiles.shape[0] + 8 * batch
    costs["update"] = Cost(state, moved, sum(products), step.tiles.shape[0], 1 + ceil(batch / 8))
    return costs


def _turns(step: Step, number: int) -> int:
    """Of the tail: a layer forward and backward."""
    layer, examples = step.layers[number], ceil(step.batch / launches.EXAMPLES)
    out, terms = launches.TAIL_OUTPUTS, launches.TAIL_INPUTS
    forward = ceil(layer.outputs / out) * ceil(layer.inputs / terms)
    return examples * (forward + ceil(layer.inputs / out) * ceil(layer.outputs / terms))


def bytes_per_parameter(step: Step) -> tuple[float, float]:
    """Of an update: those of the state and of ranks, and those of the minibatch, per parameter of a member."""
    state = float(sum(cost.state for cost in account(step).values()))
    if step.buckets is not None:
        sizes = [layer.inputs * layer.outputs for layer in step.layers]
        state += sum(size * sum(bytes_per_weight(size).values()) for size in sizes)
    return state / step.count, sum(cost.batch for cost in account(step).values()) / step.count


def estimate(step: Step, members: int) -> dict[str, float]:
    """Estimated seconds of each launch on the machine assumed above; not a measurement.

    A launch takes the longest of three times: bytes, products, and its programs in turn.

    Args:
        step: of which update.
        members: M.

    Returns:
        Launch to seconds, the gap between launches included.
    """
    seconds = {}
    for name, cost in account(step).items():
        turns = ceil(cost.programs * members / (PROCESSORS * RESIDENT)) * cost.turns
        seconds[name] = GAP + max(members * cost.bytes / BANDWIDTH, members * cost.flops / FLOPS, TURN * turns)
    return seconds


def table() -> str:
    """Markdown table of the account, for the perceptron 784-128-64-32-10 and minibatches of 16."""
    from fastplast_kernels.mlp_step.configurations import step_of

    rows = [
        "| optimiser, pull | launches | state, B/parameter | minibatch, B/parameter | M = 30, µs | M = 1000, µs |",
        "|---|---|---|---|---|---|",
    ]
    variants = {
        "adam, none": {}, "adam, to zero": {"pull": "zero"}, "adam, to a target": {"pull": "target"},
        "sgd, none": {"optimizer": "sgd"},
    }  # fmt: skip
    for name, options in variants.items():
        step = step_of(**options)
        state, batch = bytes_per_parameter(step)
        times = (f"{1e6 * sum(estimate(step, members).values()):,.0f}" for members in (30, 1000))
        rows.append(f"| {name} | {step.launches} | {state:.1f} | {batch:.1f} | {' | '.join(times)} |")
    step = step_of(pull="ranked")
    state, batch = bytes_per_parameter(step)
    rows.append(f"| adam, to a ranked target | {step.launches} | {state:.1f} | {batch:.1f} | | |")
    return "\n".join(rows)
