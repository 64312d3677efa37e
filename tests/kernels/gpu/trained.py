"""Training a case on the GPU, and comparing it with the definition: for perceptrons and convolutional networks."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import torch
from assertions import assert_close, assert_same_bits, tolerance
from fastplast_kernels.train_step import launches, training
from fastplast_kernels.train_step.gpu_conv_launches import convolutions_of
from interpreter import INTERPRETED, permuted_programs, poison
from mlp_case import Case
from torch import Tensor

STATE = ("params", "m", "v", "steps", "diverged")
ACTIVATIONS = ("relu", "leaky_relu", "tanh", "identity")
OPTIMIZERS = [("adam", False), ("adam", True), ("sgd", False), ("sgd", True)]
PULLS = ("none", "l2", "regenerative", "wasserstein")
# Each optimiser with each pull and with each activation; on a GPU, where it is fast, all with all.
COMBINATIONS = [
    (activation, *OPTIMIZERS[i], PULLS[j])
    for i, j in product(range(4), range(4))
    for activation in (ACTIVATIONS[(i + j) % 4 : (i + j) % 4 + 1] if INTERPRETED else ACTIVATIONS)
]


def to(case: Case, device: str) -> Case:
    """The case with tensors of its own on a device."""
    task = replace(case.task, **{k: v.to(device) for k, v in vars(case.task).items() if isinstance(v, Tensor)})
    own = {name: getattr(case, name).to(device, copy=True) for name in STATE}
    optional = {name: getattr(case, name) for name in ("anchor", "ranked", "keys")}
    optional = {name: None if value is None else value.to(device) for name, value in optional.items()}
    return replace(case, task=task, order=case.order.to(device), hyper=case.hyper.to(device), **own, **optional)


def step_of(case: Case, **options: str) -> launches.Step:
    return launches.allocate(
        case.params, case.layers, case.task, case.order, case.optimizer, case.decoupled, case.anchor, case.ranked,
        below=convolutions_of(case.layers), keys=case.keys, **options,
    )  # fmt: skip


def train(case: Case, poisoned: bool = False, seed: int | None = None) -> tuple[Tensor, ...]:
    """Trains the case's own tensors; scratch memory may be poisoned, and programs run in a random order."""
    step = step_of(case)
    if poisoned:
        poison(step.values, step.deltas, step.chosen, step.coefficients, step.sums, step.partial)
        step.winners.fill_(255)
        poison(step.params, step.m, step.v, *([] if step.buckets is None else [step.q]))
    with permuted_programs(seed):
        sums = training.train(step, *(getattr(case, name) for name in STATE), case.hyper)
    return tuple(value.cpu() for value in sums)


def steady(case: Case) -> Case:
    """Second moments are well above the squares of gradients: a step of Adam then magnifies no rounding error.

    From zero, a gradient g of the size of epsilon or below moves a weight by step size x g / epsilon, and the rounding
    error of g by as much: comparisons from there have the tolerance of the engine's tests, which measure that.
    """
    case.v.copy_((1 + torch.rand(case.v.shape)) * case.is_parameter())
    return case


def length_of(case: Case) -> int:
    """Terms of the sums behind a gradient: outputs and inputs of every layer, and examples."""
    return sum(layer.inputs + layer.outputs for layer in case.layers) + case.order.shape[2]


def check(case: Case, device: str, **options: object) -> None:
    """Trains a steady case both ways, the definition in float64: rounding errors of each step add up.

    A weight that is rounded to its other neighbour changes the length of an update by as much, whatever the length.
    """
    expected, own = case.fresh(), to(case, device)
    sums = train(own, **options)
    wanted = expected.train_reference()
    moved = float((expected.params - case.params).abs().max())
    assert moved > 0
    assert own.steps.tolist() == expected.steps.tolist() == (case.steps + sums[0]).tolist()
    assert own.diverged.tolist() == expected.diverged.tolist()
    length, factor = length_of(case), 4.0 * case.order.shape[1]
    for name in ("m", "v"):
        assert_close(name, getattr(own, name), getattr(expected, name), length=length, factor=factor)
    last_bit = 2.0**-24 * float(case.params.abs().max())  # a weight is rounded to it at every step
    scale = moved + last_bit * case.order.shape[1] / tolerance(torch.float32, length, factor)
    assert_close("parameters", own.params, expected.params, length=length, factor=factor, scale=scale)
    assert not (own.params.cpu() * ~case.is_parameter()).any(), "wrote to the padding"
    assert_close("loss", sums[1], wanted[0], length=length, factor=factor)
    assert_close("error", sums[2], wanted[1], factor=factor)
    apart = (own.params.cpu().double() - expected.params.double()).abs()
    neighbours = case.order.shape[1] ** 0.5 / tolerance(torch.float32, length, factor)
    rounded = {
        "update_l1": float(apart.sum(1).max() + 2 * last_bit) / int(case.is_parameter().sum()),
        "update_l2": float(apart.norm(dim=1).max() + 2 * last_bit),
    }
    for (name, difference), value, want in zip(rounded.items(), sums[3:], wanted[2:], strict=True):
        scale = float(want.max()) + difference * neighbours
        assert_close(name, value, want, length=length, factor=factor, scale=scale)


def check_bits(case: Case, device: str, sizes: int | list[int] = 1, **options: object) -> None:
    """A member has the same bits alone, in any order of programs, and by calls of so many updates; see `train`."""
    together, parts = to(case, device), to(case, device)
    sums = train(together)
    for row in range(len(case.params)):
        own = to(case.pick([row]), device)
        own_sums = train(own, seed=row, **options)
        for name in STATE:
            assert_same_bits(name, getattr(own, name), getattr(together, name)[row : row + 1])
        for value, all_values in zip(own_sums, sums):
            assert_same_bits("sums", value, all_values[row : row + 1])
    for order in parts.order.split(sizes, 1):
        train(replace(parts, order=order.contiguous()))
    for name in STATE:
        assert_same_bits(name, getattr(parts, name), getattr(together, name))
