"""The training step on the GPU against its definition, and its bits against themselves."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from assertions import assert_same_bits
from interpreter import INTERPRETED, permuted_programs, poison
from mlp_case import Case, make_case
from torch import Tensor

pytest.importorskip("triton", reason="needs Triton")

from fastplast_kernels.mlp_step import gpu, launches, reference, training
from fastplast_kernels.wasserstein import gpu as wasserstein

ACTIVATIONS = ("relu", "leaky_relu", "tanh", "identity")
OPTIMIZERS = [("adam", False), ("adam", True), ("sgd", False), ("sgd", True)]
STATE = ("params", "m", "v", "steps", "diverged")


@pytest.fixture(autouse=True)
def small_blocks(request, monkeypatch):
    """In the interpreter, small buckets and tiles: as many of them with fewer weights."""
    if INTERPRETED and "full_size" not in request.node.name:
        small = {"CAPACITY": 32, "MEAN": 16, "FULL": 28, "BLOCK": 128, "SHIFT": 22, "NUM_CELLS": 1024}
        for name, value in small.items():
            monkeypatch.setattr(wasserstein, name, value)
        for name in ("FIRST_INPUTS", "TAIL_INPUTS", "TAIL_OUTPUTS", "UPDATE_OUTPUTS", "UPDATE_INPUTS"):
            monkeypatch.setattr(launches, name, 16)


def to(case: Case, device: str) -> Case:
    """The case with tensors of its own on a device."""
    task = replace(case.task, **{k: v.to(device) for k, v in vars(case.task).items() if isinstance(v, Tensor)})
    own = {name: getattr(case, name).to(device, copy=True) for name in STATE}
    optional = {name: getattr(case, name) for name in ("anchor", "ranked")}
    optional = {name: None if value is None else value.to(device) for name, value in optional.items()}
    return replace(case, task=task, order=case.order.to(device), hyper=case.hyper.to(device), **own, **optional)


def step_of(case: Case, **options: str) -> launches.Step:
    return launches.allocate(
        case.params, case.layers, case.task, case.order, case.optimizer, case.decoupled, case.anchor, case.ranked,
        **options,
    )  # fmt: skip


def train(case: Case, poisoned: bool = False, seed: int | None = None) -> tuple[Tensor, ...]:
    """Trains the case's own tensors; scratch memory may be poisoned, and programs run in a random order."""
    step = step_of(case)
    if poisoned:
        poison(step.values, step.deltas, step.chosen, step.coefficients, step.sums, step.partial, step.q)
    with permuted_programs(seed):
        sums = training.train(step, *(getattr(case, name) for name in STATE), case.hyper)
    return tuple(value.cpu() for value in sums)


def check(case: Case, device: str, rate: float = 2e-3, loss: float = 2e-6, **options: object) -> None:
    """Trains a case both ways; parameters may differ by `rate` times the largest change, sums of losses by `loss`."""
    expected, own = case.fresh(), to(case, device)
    sums = train(own, **options)
    wanted = expected.train_reference()
    moved = float((expected.params - case.params).abs().max())
    assert moved > 0
    assert own.steps.tolist() == expected.steps.tolist() == (case.steps + sums[0]).tolist()
    assert own.diverged.tolist() == expected.diverged.tolist()
    for name in ("m", "v"):
        size = float(getattr(expected, name).abs().max())
        difference = float((getattr(own, name).cpu() - getattr(expected, name)).abs().max())
        assert difference <= 1e-5 * size, f"{name}: {difference} of {size}"
    assert float((own.params.cpu() - expected.params).abs().max()) <= rate * moved
    assert not (own.params.cpu() * ~case.is_parameter()).any(), "wrote to the padding"
    for value, want, tolerance in zip(sums[1:], wanted, (loss, 0, 2e-6, 2e-6)):
        torch.testing.assert_close(value, want, rtol=tolerance, atol=0)


@pytest.mark.parametrize("pull", ["none", "l2", "regenerative", "wasserstein"])
@pytest.mark.parametrize(("optimizer", "decoupled"), OPTIMIZERS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_steps_equal_the_definition(activation, optimizer, decoupled, pull, device):
    """With ragged batches, weight decay, poisoned memory, and programs in any order."""
    sizes = (5, 7, 3) if pull == "wasserstein" else (9, 17, 4)  # sorting is slow in the interpreter
    case = make_case(
        sizes, activation, members=2, batch=5, steps=3, ragged=True, permuted=True, pull=pull,
        optimizer=optimizer, decoupled=decoupled,
    )  # fmt: skip
    case.hyper.weight_decay[:] = torch.tensor([0.0, 0.05])
    check(case, device, poisoned=True, seed=1)


@pytest.mark.parametrize(
    ("sizes", "batch", "members"),
    [((37, 21, 18, 5), 16, 1), ((130, 34, 3, 2), 1, 3), ((16, 4), 7, 3), ((5, 1, 7, 6, 9), 3, 3), ((9, 64, 9), 50, 1)],
)  # fmt: skip
def test_networks_of_any_size_equal_the_definition(sizes, batch, members, device):
    check(make_case(sizes, members=members, batch=batch, steps=2), device, poisoned=True, seed=2)


def test_twenty_steps_of_every_method_in_one_batch_equal_the_definition(device):
    check(make_case((9, 7, 4), members=4, batch=9, pull="mixed", ragged=True), device)


@pytest.mark.parametrize(("permuted", "floats"), list(product((False, True), repeat=2)))
def test_inputs_are_those_of_the_task(permuted, floats, device):
    check(make_case((12, 6, 4), "tanh", permuted=permuted, floats=floats, steps=2), device, rate=1e-3)


def test_full_size_tiles_equal_the_definition_full_size(device):
    case = make_case((784, 128, 64, 32, 10), members=2, steps=1, pull="regenerative")
    for moment in (case.m, case.v):
        moment.copy_((0.1 + torch.rand(moment.shape)) * case.is_parameter())
    check(case, device, rate=1e-4)


@pytest.mark.parametrize("small", [0, 200, 10_000])
def test_large_layers_are_spread_over_programs(small, device, monkeypatch):
    """How many is decided by their size, and moves no bit of a sum."""
    monkeypatch.setattr(launches, "SMALL", small)
    case = make_case((12, 20, 17, 8, 3), "leaky_relu", members=2, batch=5, steps=3)
    expected_launches = {0: 9, 200: 5, 10_000: 3}[small]
    assert step_of(to(case, device)).launches == expected_launches
    check(case, device, poisoned=True, seed=3)


def test_a_member_has_the_same_bits_alone_in_any_order_of_programs_and_in_parts(device):
    case = make_case((9, 7, 4), members=4, batch=7, steps=3, ragged=True, pull="mixed")
    together = to(case, device)
    sums = train(together)
    for row in range(4):
        own = to(case.pick([row]), device)
        own_sums = train(own, seed=row)
        for name in STATE:
            assert_same_bits(name, getattr(own, name), getattr(together, name)[row : row + 1])
        for value, all_values in zip(own_sums, sums):
            assert_same_bits("sums", value, all_values[row : row + 1])
    parts = to(case, device)
    for s in range(3):
        train(replace(parts, order=parts.order[:, s : s + 1].contiguous()))
    for name in STATE:
        assert_same_bits(name, getattr(parts, name), getattr(together, name))


@pytest.mark.filterwarnings(
    "ignore:(overflow|invalid value|divide by zero):RuntimeWarning"
)  # of NumPy in the interpreter
@pytest.mark.parametrize(
    ("optimizer", "cause"), [("adam", "rate"), ("sgd", "rate"), ("adam", "loss"), ("sgd", "update"), ("adam", "update")]
)
def test_a_member_that_diverges_is_left_as_it_was_and_harms_no_other(optimizer, cause, device):
    """By a loss that overflows, or a change that does while the loss is finite, after a few good updates."""
    case = make_case((13, 18, 5), members=3, batch=7, steps=4, pull="l2", optimizer=optimizer)
    calm = to(case, device)
    calm_sums = train(calm)
    if cause == "rate":
        case.hyper.learning_rate[1] = 1e30
    elif cause == "loss":
        case.params[1, case.layers[-1].bias] = torch.inf
    else:
        case.m[1, case.layers[0].weight + 3] = 3e38  # overflows when momentum grows it, or a step multiplies it
        case.hyper.momentum[1], case.hyper.learning_rate[1] = 1.5, 1e-30 if optimizer == "sgd" else 1e3
    expected, own = case.fresh(), to(case, device)
    sums = train(own, seed=4)
    wanted = reference.train(  # in float32: float64 overflows later
        *(getattr(expected, name) for name in STATE), case.layers, case.task.inputs, case.task.labels, case.order,
        case.hyper, optimizer, False, case.anchor,
    )  # fmt: skip
    assert own.diverged.tolist() == expected.diverged.tolist()
    assert own.diverged[1] >= 0
    assert own.steps.tolist() == expected.steps.tolist()
    for name in ("params", "m", "v"):
        size = float(getattr(expected, name)[1].abs().max())
        torch.testing.assert_close(getattr(own, name)[1].cpu(), getattr(expected, name)[1], rtol=0, atol=1e-2 * size)
        for row in (0, 2):
            assert_same_bits(name, getattr(own, name)[row], getattr(calm, name)[row])
    torch.testing.assert_close(sums[1][1], wanted[0, 1], rtol=1e-5, atol=0)
    for value, calm_value in zip(sums, calm_sums):
        assert_same_bits("sums", value[::2], calm_value[::2])


def test_a_frozen_member_stays_as_it_is(device):
    case = make_case((13, 6, 4), members=2, batch=7, steps=2)
    case.diverged[0] = 5
    own = to(case, device)
    sums = train(own)
    assert own.diverged.tolist() == [5, -1]
    assert sums[0].tolist() == [0, 2]
    assert_same_bits("parameters", own.params[0], case.params[0].to(device))
    assert all(float(value[0]) == 0 for value in sums)


def test_strength_0_is_no_pull_to_the_bit(device):
    case = make_case((13, 6, 4), members=2, batch=7, steps=2, pull="regenerative")
    case.hyper.strength[:] = 0
    pulled, free = to(case, device), to(replace(case, anchor=None, ranked=None), device)
    for value, other in zip(train(pulled), train(free)):
        assert_same_bits("sums", value, other)
    assert_same_bits("parameters", pulled.params, free.params)


def test_a_target_of_zeros_is_not_read(device):
    case = to(make_case((13, 6, 4), members=2, pull="l2"), device)
    assert step_of(case).pull == gpu.PULL_TO_ZERO
    assert step_of(case).q.numel() == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "bf16"}, "precision is unknown: got 'bf16'. Choose one of ieee, tf32"),
        ({"activation": "gelu"}, "activation is unknown: got 'gelu'. Choose one of identity, relu"),
    ],
)
def test_what_is_unknown_is_refused_with_a_list(changes, message, device):
    case = to(make_case((13, 6, 4), members=2), device)
    if "activation" in changes:
        case = replace(case, layers=(replace(case.layers[0], activation=changes.pop("activation")), case.layers[1]))
    with pytest.raises(ValueError, match=message):
        step_of(case, **changes)
