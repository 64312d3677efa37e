"""Regularisers against autograd of the penalty written out, in float64."""

import math

import pytest
import torch
from assertions import assert_close, assert_same_bits
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from fastplast.config import METHOD_NAMES, PULLS, Experiment, Member
from fastplast.methods import METHODS, Pull, build_pull, strength_of
from fastplast.networks import Layout, build_network

STRENGTHS = (0.0, 0.3, 20.0)
NETWORK = build_network(Experiment(network="cnn", channels=(3,), widths=(6, 4), init="torch_default"), (2, 5, 4), 3)
LAYOUT = NETWORK.layout


def members(method: str, strengths: tuple[float, ...] = STRENGTHS) -> tuple[Member, ...]:
    return tuple(Member(seed, 1e-3, method, strength * (method != "none")) for seed, strength in enumerate(strengths))


def pull_of(members: tuple[Member, ...], init: Tensor, layout: Layout, reduction: str) -> Pull:
    strength = torch.tensor([strength_of(member) for member in members], dtype=torch.float64)
    return build_pull(members, strength, init, layout, reduction)


def arenas(count: int = 3) -> tuple[Tensor, Tensor]:
    """Initial parameters and parameters some way from them; padding zero in both."""
    init = NETWORK.initial_parameters(list(range(count)))
    torch.manual_seed(0)
    return init, init + 0.1 * torch.randn_like(init) * (init != 0)


def written_out(method: str, reduction: str, w: Tensor, w0: Tensor) -> Tensor:
    """The penalty of one weight matrix, strength left out, in the words of the papers."""
    distance = {
        "none": 0 * w,
        "l2": w,
        "regenerative": w - w0,
        "wasserstein": w.flatten().sort().values - w0.flatten().sort().values,
    }[method]
    return distance.square().mean() if reduction == "mean" else distance.square().sum()


def expected(method: str, reduction: str, params: Tensor, init: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Penalty and gradient of one member, float64."""
    row = params.double().requires_grad_()
    now, start = LAYOUT.views(row), LAYOUT.views(init.double())
    names = [slot.name for slot in LAYOUT.slots if slot.name.endswith(".weight")]
    penalty = strength * torch.stack([written_out(method, reduction, now[n], start[n]) for n in names]).sum()
    return penalty.detach(), torch.autograd.grad(penalty, row)[0]


def test_methods_are_those_of_the_configuration_and_say_what_they_are() -> None:
    assert tuple(METHODS) == METHOD_NAMES
    assert all(method.summary for method in METHODS.values())
    assert all(method.reference for name, method in METHODS.items() if name != "none")


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("method", PULLS)
def test_gradient_and_penalty_equal_autograd_of_the_written_out_penalty(method: str, reduction: str) -> None:
    init, params = arenas()
    pull = pull_of(members(method), init, LAYOUT, reduction)
    gradient, penalty = pull.gradient(params), pull.penalty(params)
    for m, member in enumerate(members(method)):
        value, slope = expected(method, reduction, params[m], init[m], member.strength)
        assert_close(f"penalty of {m}", penalty[m], value, length=LAYOUT.size)
        # Each element is 2 strength c (w - q): rounded a few times, relative to the larger of w and q.
        assert_close(f"gradient of {m}", gradient[m], slope)
    assert penalty.dtype == torch.float64
    assert pull.active == (method != "none")


@pytest.mark.parametrize("method", PULLS)
def test_biases_padding_and_members_of_strength_zero_are_not_pulled(method: str) -> None:
    init, params = arenas()
    gradient = pull_of(members(method), init, LAYOUT, "sum").gradient(params)
    assert (gradient[0] == 0).all()
    for slot in LAYOUT.slots:
        assert (gradient[1:, slot.slice] != 0).any() == (slot.is_weight and method != "none")
        gradient[:, slot.slice] = 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_methods_mixed_in_one_rule_equal_rules_of_their_own_to_the_bit(reduction: str) -> None:
    init, params = arenas(6)
    names = ("wasserstein", "none", "l2", "wasserstein", "regenerative", "l2")
    mixed = tuple(Member(i, 1e-3, name, 0.5 * i * (name != "none")) for i, name in enumerate(names))
    together = pull_of(mixed, init, LAYOUT, reduction)
    for i, member in enumerate(mixed):
        alone = pull_of((member,), init[i : i + 1], LAYOUT, reduction)
        assert_same_bits(f"gradient of {i}", together.gradient(params)[i], alone.gradient(params[i : i + 1])[0])
        assert_same_bits(f"penalty of {i}", together.penalty(params)[i], alone.penalty(params[i : i + 1])[0])


def test_rows_of_a_rule_are_the_rule_of_the_rows() -> None:
    init, params = arenas()
    pull = pull_of(members("wasserstein"), init, LAYOUT, "mean")
    part: Pull = pull.rows(slice(1, 3))
    assert_same_bits("gradient", part.gradient(params[1:3]), pull.gradient(params)[1:3])
    assert not pull.rows(slice(0, 1)).active


@pytest.mark.parametrize("method", ["regenerative", "wasserstein"])
def test_initial_weights_are_not_pulled(method: str) -> None:
    init, _ = arenas()
    pull = pull_of(members(method), init, LAYOUT, "mean")
    assert (pull.gradient(init) == 0).all()
    assert (pull.penalty(init) == 0).all()


def test_l2_has_no_anchor_but_zero() -> None:
    init, params = arenas()
    pull = pull_of(members("l2"), init, LAYOUT, "sum")
    weight = LAYOUT["fc1.weight"].slice
    assert_close("gradient", pull.gradient(params)[2, weight], 40.0 * params[2, weight])


def test_wasserstein_is_the_cheapest_assignment_of_weights_to_initial_weights() -> None:
    init, params = arenas()
    penalty = pull_of(members("wasserstein"), init, LAYOUT, "sum").penalty(params)
    for m, strength in enumerate(STRENGTHS):
        cost = 0.0
        for slot in LAYOUT.slots:
            if slot.is_weight:
                w, w0 = (t[m, slot.slice].double() for t in (params, init))
                pairs = (w[:, None] - w0).square().numpy()
                cost += pairs[linear_sum_assignment(pairs)].sum()
        assert_close(f"penalty of {m}", penalty[m], strength * cost, length=LAYOUT.size)


def test_wasserstein_does_not_see_the_order_of_weights_within_a_matrix() -> None:
    init, params = arenas()
    shuffled = params.clone()
    for slot in LAYOUT.slots:
        turn = torch.randperm(slot.count)
        shuffled[:, slot.slice] = params[:, slot.slice][:, turn]
    pull = pull_of(members("wasserstein"), init, LAYOUT, "mean")
    assert_close("penalty", pull.penalty(shuffled), pull.penalty(params), length=LAYOUT.size)


def test_wasserstein_targets_are_the_initial_weights_of_the_same_matrix_and_rank() -> None:
    init, params = arenas()
    target = pull_of(members("wasserstein"), init, LAYOUT, "mean").target(params)
    for m, slot in ((m, slot) for m in (1, 2) for slot in LAYOUT.slots if slot.is_weight):
        q, w = target[m, slot.slice], params[m, slot.slice]
        assert_same_bits("values", q.sort().values, init[m, slot.slice].sort().values)
        assert (q[w.argsort()].diff() >= 0).all()


def test_equal_weights_take_their_targets_in_order_of_index() -> None:
    layout = Layout.pack({"a.weight": (1, 4)}, {"a.weight"})
    init, params = torch.zeros(1, layout.size), torch.zeros(1, layout.size)
    init[0, :4] = torch.tensor([4.0, 2.0, 3.0, 1.0])
    params[0, :4] = torch.tensor([0.0, -0.0, 5.0, 0.0])
    pull = pull_of((Member(0, 1e-3, "wasserstein", 1.0),), init, layout, "sum")
    assert pull.target(params)[0, :4].tolist() == [1.0, 2.0, 4.0, 3.0]
    assert pull.penalty(params).item() == math.fsum([1.0, 4.0, 1.0, 9.0])


@pytest.mark.parametrize("method", PULLS)
def test_the_rule_leaves_parameters_and_initial_parameters_as_they_were(method: str) -> None:
    init, params = arenas()
    before = init.clone(), params.clone()
    pull = pull_of(members(method), init, LAYOUT, "mean")
    pull.gradient(params)
    pull.penalty(params)
    init += 1
    assert_same_bits("init", init - 1, (before[0] + 1) - 1)
    assert_same_bits("params", params, before[1])
    value, _ = expected(method, "mean", params[2], before[0][2], 20.0 * (method != "none"))
    assert_close("anchor is a copy", pull.penalty(params)[2], value, length=LAYOUT.size)
