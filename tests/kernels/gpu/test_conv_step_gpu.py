"""The training step of convolutional networks on the GPU against its definition, and its bits against themselves."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from assertions import assert_same_bits
from conv_case import ConvCase, make_conv_case
from interpreter import INTERPRETED

pytest.importorskip("triton", reason="needs Triton")

from fastplast_kernels.train_step import launches
from trained import COMBINATIONS, check, check_bits, steady, step_of, to, train

pytestmark = pytest.mark.usefixtures("small_buckets", "small_tiles")
TINY = {"shape": (2, 5, 6), "convolutions": ((3, 3, 2, 1), (2, 2, 1, 0)), "sizes": (4, 3)}


def steady_case(**options: object) -> ConvCase:
    """A case that steps of Adam magnify no rounding errors of."""
    return steady(make_conv_case(**{"batch": 4, "steps": 2, "members": 2, **options}))


@pytest.mark.parametrize(("activation", "optimizer", "decoupled", "pull"), COMBINATIONS)
def test_steps_equal_the_definition(activation, optimizer, decoupled, pull, device):
    """With ragged batches, weight decay, poisoned memory, and programs in any order."""
    case = steady_case(
        **TINY, activation=activation, batch=5, steps=3, ragged=True, permuted=True, pull=pull,
        optimizer=optimizer, decoupled=decoupled,
    )  # fmt: skip
    case.hyper.weight_decay[:] = torch.tensor([0.0, 0.05])
    check(case, device, poisoned=True, seed=1)


@pytest.mark.parametrize(
    ("shape", "convolutions", "sizes", "batch", "members"),
    [
        ((3, 8, 8), ((16, 3, 2, 1), (20, 3, 2, 1), (33, 3, 2, 1)), (6, 5), 16, 1),
        ((1, 7, 9), ((5, 3, 2, 1),), (3,), 1, 3),
        ((4, 11, 5), ((17, 5, 3, 2), (3, 1, 1, 0)), (9, 2), 7, 1),
        ((2, 9, 9), ((4, 2, 3, 0), (4, 2, 2, 1)), (4,), 3, 2),  # pixels that no patch sees
        ((3, 6, 7), ((4, 3, 1, 1), (8, 4, 2, 3)), (8, 4), 5, 1),
    ],
)
def test_networks_of_any_size_equal_the_definition(shape, convolutions, sizes, batch, members, device):
    case = steady_case(shape=shape, convolutions=convolutions, sizes=sizes, batch=batch, members=members)
    check(case, device, poisoned=True, seed=2)


def test_steps_of_every_method_in_one_batch_equal_the_definition(device):
    check(steady_case(**TINY, members=4, steps=3 if INTERPRETED else 20, pull="mixed", ragged=True), device)


def test_twenty_chained_steps_equal_the_definition(device):
    check(steady_case(**TINY, activation="tanh", members=1, batch=3, steps=20), device)


@pytest.mark.parametrize(("permuted", "floats"), list(product((False, True), repeat=2)))
def test_inputs_are_those_of_the_task(permuted, floats, device):
    check(steady_case(**TINY, activation="tanh", permuted=permuted, floats=floats), device)


@pytest.mark.parametrize("small", [0, 10_000])
def test_large_dense_layers_are_spread_over_programs(small, device, monkeypatch):
    monkeypatch.setattr(launches, "SMALL", small)
    case = steady_case(**{**TINY, "sizes": (6, 4, 3)}, activation="leaky_relu", members=1)
    convolutions, dense = 2, 3 if small == 0 else 0
    # Forward, tail, backward but of the first layer, and two updates.
    assert step_of(to(case, device)).launches == 2 * (convolutions + dense) + 2
    check(case, device, poisoned=True, seed=3)


@pytest.mark.parametrize(("members", "pull"), [(2, "regenerative"), (4, "mixed")])
def test_a_member_has_the_same_bits_alone_in_any_order_of_programs_and_in_parts(members, pull, device):
    """Whatever the methods of the others."""
    case = make_conv_case(**TINY, members=members, batch=4, steps=3, ragged=True, pull=pull)
    check_bits(case, device, [1, 2])


@pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero|All-NaN):RuntimeWarning")  # of NumPy
@pytest.mark.parametrize("cause", ["loss", "update"])
def test_a_member_that_diverges_is_left_as_it_was_and_harms_no_other(cause, device):
    """By a loss that is not finite, or by a change of a convolution's weight that is not while the loss is."""
    case = steady_case(**TINY, members=3, pull="l2", batch=3)
    calm = to(case, device)
    calm_sums = train(calm)
    if cause == "loss":
        case.params[1, case.layers[0].bias] = torch.nan
    else:
        case.m[1, case.layers[0].weight + 3], case.hyper.learning_rate[1] = 3e38, 1e3
    own = to(case, device)
    sums = train(own, seed=4)
    assert own.diverged.tolist() == [-1, 0, -1]
    assert own.steps.tolist() == [2, 0, 2]
    for name in ("params", "m", "v"):
        assert_same_bits(name, getattr(own, name)[1], getattr(case, name)[1].to(device))
        for row in (0, 2):
            assert_same_bits(name, getattr(own, name)[row], getattr(calm, name)[row])
    for value, calm_value in zip(sums, calm_sums):
        assert_same_bits("sums", value[::2], calm_value[::2])


def test_strength_0_is_no_pull_to_the_bit(device):
    case = make_conv_case(**TINY, members=2, batch=4, steps=2, pull="regenerative")
    case.hyper.strength[:] = 0
    pulled, free = to(case, device), to(replace(case, anchor=None, ranked=None), device)
    for value, other in zip(train(pulled), train(free)):
        assert_same_bits("sums", value, other)
    assert_same_bits("parameters", pulled.params, free.params)


def test_full_size_network_equals_the_definition_full_size(device):
    sizes = {"sizes": (32, 10), "batch": 2, "examples": 5} if INTERPRETED else {"sizes": (64, 32, 10), "batch": 16}
    convolutions = ((16, 3, 2, 1), (32, 3, 2, 1), (64, 3, 2, 1))
    shape = (3, 8, 8) if INTERPRETED else (3, 32, 32)
    case = steady_case(shape=shape, convolutions=convolutions, members=1, steps=1, pull="regenerative", **sizes)
    check(case, device)
