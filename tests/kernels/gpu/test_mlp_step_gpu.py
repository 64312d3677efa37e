"""The training step on the GPU against its definition, and its bits against themselves."""

from dataclasses import replace
from functools import cache
from itertools import product

import pytest
import torch
from assertions import assert_close, assert_same_bits
from interpreter import INTERPRETED, permuted_programs
from mlp_case import Case, make_case
from torch import Tensor

pytest.importorskip("triton", reason="needs Triton")

from fastplast_kernels.train_step import launches, reference, training
from fastplast_kernels.train_step.gpu_parts import PULL_TO_ZERO
from fastplast_kernels.wasserstein.reference import target
from trained import COMBINATIONS, STATE, check, check_bits, length_of, steady, step_of, to, train

pytestmark = pytest.mark.usefixtures("small_buckets", "small_tiles")


def steady_case(sizes: tuple[int, ...], *options: object, **more: object) -> Case:
    """A case that steps of Adam magnify no rounding errors of."""
    return steady(make_case(sizes, *options, **more))


@pytest.mark.parametrize(("activation", "optimizer", "decoupled", "pull"), COMBINATIONS)
def test_steps_equal_the_definition(activation, optimizer, decoupled, pull, device):
    """With ragged batches, weight decay, poisoned memory, and programs in any order."""
    sizes = (5, 7, 3) if pull == "wasserstein" else (9, 17, 4)  # sorting is slow in the interpreter
    case = steady_case(
        sizes, activation, members=2, batch=5, steps=3, ragged=True, permuted=True, pull=pull,
        optimizer=optimizer, decoupled=decoupled,
    )  # fmt: skip
    case.hyper.weight_decay[:] = torch.tensor([0.0, 0.05])
    check(case, device, poisoned=True, seed=1)


@pytest.mark.parametrize(
    ("sizes", "batch", "members"),
    [((37, 21, 18, 5), 16, 1), ((50, 34, 3, 2), 1, 2), ((16, 4), 7, 2), ((5, 1, 7, 6, 9), 3, 2), ((9, 17, 9), 40, 1)],
)  # fmt: skip
def test_networks_of_any_size_equal_the_definition(sizes, batch, members, device):
    check(steady_case(sizes, members=members, batch=batch, steps=2), device, poisoned=True, seed=2)


def test_many_steps_of_every_method_in_one_batch_equal_the_definition(device):
    steps = 4 if INTERPRETED else 20
    check(steady_case((9, 7, 4), members=4, batch=7, steps=steps, pull="mixed", ragged=True), device)


@pytest.mark.parametrize(("permuted", "floats"), list(product((False, True), repeat=2)))
def test_inputs_are_those_of_the_task(permuted, floats, device):
    check(steady_case((12, 6, 4), "tanh", members=2, batch=7, permuted=permuted, floats=floats, steps=2), device)


def test_full_size_tiles_equal_the_definition_full_size(device):
    case = steady_case((784, 128, 64, 32, 10), members=1 if INTERPRETED else 2, steps=1, pull="regenerative")
    check(case, device)


@pytest.mark.parametrize("small", [0, 200, 10_000])
def test_large_layers_are_spread_over_programs(small, device, monkeypatch):
    """How many is decided by their size, and moves no bit of a sum."""
    monkeypatch.setattr(launches, "SMALL", small)
    case = steady_case((12, 20, 17, 8, 3), "leaky_relu", members=1, batch=5, steps=2)
    expected_launches = {0: 9, 200: 5, 10_000: 3}[small]
    assert step_of(to(case, device)).launches == expected_launches
    check(case, device, poisoned=True, seed=3)


def test_a_member_has_the_same_bits_alone_in_any_order_of_programs_and_in_parts(device):
    case = make_case((9, 7, 4), members=4, batch=4, steps=3, ragged=True, pull="mixed")
    check_bits(case, device, [1, 2])


def case_of_three(optimizer: str) -> Case:
    return steady_case((9, 6, 4), members=3, batch=5, steps=3, pull="l2", optimizer=optimizer)


@cache
def healthy(optimizer: str, device: str) -> tuple[Case, tuple[Tensor, ...]]:
    """The case below if nothing goes wrong, and its sums."""
    own = to(case_of_three(optimizer), device)
    return own, train(own)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero|All-NaN):RuntimeWarning")  # of NumPy
@pytest.mark.parametrize(
    ("optimizer", "cause", "updates"),
    [("adam", "rate", 1), ("sgd", "rate", 1), ("adam", "loss", 0), ("adam", "update", 0), ("sgd", "update", 2)],
)
def test_a_member_that_diverges_is_left_as_it_was_and_harms_no_other(optimizer, cause, updates, device):
    """By a loss that overflows, or by a change that does while the loss is finite, after so many good updates."""
    case, (calm, calm_sums) = case_of_three(optimizer), healthy(optimizer, device)
    if cause == "rate":
        case.hyper.learning_rate[1] = 1e30
    elif cause == "loss":
        case.params[1, case.layers[-1].bias] = torch.inf
    elif optimizer == "adam":
        case.m[1, case.layers[0].weight + 3], case.hyper.learning_rate[1] = 3e38, 1e3
    else:  # momentum grows past the largest number in the third update; the steps before change the weight by a few
        case.m[1, case.layers[0].weight + 3] = 3e38 / 1.5**2.5
        case.hyper.momentum[1], case.hyper.learning_rate[1] = 1.5, 1e-38
    expected, own = case.fresh(), to(case, device)
    sums = train(own, seed=4)
    wanted = reference.train(  # in float32: float64 overflows later
        *(getattr(expected, name) for name in STATE), case.layers, case.task.inputs, case.task.labels, case.order,
        case.hyper, optimizer, False, case.anchor,
    )  # fmt: skip
    assert own.diverged.tolist() == expected.diverged.tolist() == [-1, updates, -1]
    assert own.steps.tolist() == expected.steps.tolist() == [3, updates, 3]
    length = length_of(case)
    for name in ("params", "m", "v"):
        assert_close(name, getattr(own, name)[1], getattr(expected, name)[1], length=length)
        for row in (0, 2):
            assert_same_bits(name, getattr(own, name)[row], getattr(calm, name)[row])
    assert_close("loss", sums[1][1], wanted[0, 1], length=length)
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


def test_after_an_update_targets_are_those_of_the_ranks_of_its_weights(device):
    case = to(make_case((9, 7, 4), members=2, steps=2, pull="wasserstein"), device)
    step = step_of(case)
    with permuted_programs(5):
        training.train(step, *(getattr(case, name) for name in STATE), case.hyper)
    for layer in case.layers:
        part = slice(layer.weight, layer.weight + layer.inputs * layer.outputs)
        assert torch.equal(step.q[:, part], target(case.params[:, part], case.anchor[:, part]))


def test_a_target_of_zeros_is_not_read(device):
    case = to(make_case((13, 6, 4), members=2, pull="l2"), device)
    assert step_of(case).pull == PULL_TO_ZERO
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
