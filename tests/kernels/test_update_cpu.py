"""The optimiser step in one pass over memory against the definition and the pull."""

import pytest
import torch
from assertions import assert_close, assert_same_bits
from fastplast_kernels.optimisers import coefficients
from fastplast_kernels.update import cpu, pull_gradient, update
from fastplast_kernels.update.cpu import CHUNK, update_in_place
from test_update import CASES, hyperparameters, steps_of
from torch import Tensor

SIZES = (1, CHUNK, 3 * CHUNK + 5)


def case(size: int, members: int = 3) -> dict[str, Tensor]:
    """Every member's numbers are the same however many there are."""
    drawn = [torch.randn(5, size, generator=torch.Generator().manual_seed(m)) for m in range(members)]
    params, m, v, grads, target = torch.stack(drawn, 1).contiguous()
    return {"params": params, "m": m, "v": v.square(), "grads": grads, "target": target}


def stepped(
    given: dict[str, Tensor],
    optimizer: str,
    decay: str,
    momentum: bool,
    pull: bool,
    active: Tensor | None = None,
    parts: dict[int, Tensor] | None = None,
    in_one_pass: bool = False,
):
    """What the kernel makes of a case: parameters, moments, norms."""
    params, m, v = (given[name].clone() for name in ("params", "m", "v"))
    members, size = params.shape
    factor = torch.linspace(0.0, 2.0, size)
    if active is None:
        active = torch.ones(members, dtype=torch.bool)
    hyper = hyperparameters(members, decay != "none", momentum)
    table = coefficients(hyper, steps_of(7, members), optimizer, decay == "decoupled")
    norms = update_in_place(
        params, m, v, parts or {0: given["grads"]}, table, active, optimizer,
        *((given["target"], factor) if pull else ()), in_one_pass=in_one_pass,
    )  # fmt: skip
    return params, m, v, *norms


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pull", [False, True])
@pytest.mark.parametrize(("optimizer", "decay", "momentum"), CASES)
def test_a_step_equals_the_definition(optimizer, decay, momentum, pull, size):
    given, hyper = case(size), hyperparameters(3, decay != "none", momentum)
    grads = given["grads"]
    if pull:
        grads = grads + pull_gradient(given["params"], given["target"], hyper.strength, torch.linspace(0.0, 2.0, size))
    expected = update(
        given["params"], grads, given["m"], given["v"], steps_of(7), hyper, optimizer, decay == "decoupled"
    )
    *found, l1, l2 = stepped(given, optimizer, decay, momentum, pull)
    for name, a, b in zip(("params", "m", "v"), found, expected):
        assert_close(name, a, b, dtype=torch.float32, length=8, scale=float(b.abs().max()))
    change = (found[0].double() - given["params"].double()).float().double()
    assert_close("l1", l1, change.abs().sum(1), dtype=torch.float64, length=size)
    assert_close("l2", l2, change.norm(dim=1), dtype=torch.float64, length=size)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("optimizer", "decay", "momentum"), CASES)
def test_a_step_written_in_one_pass_has_the_same_bits(optimizer, decay, momentum, size):
    waiting, found = (stepped(case(size), optimizer, decay, momentum, True, in_one_pass=one) for one in (False, True))
    for name, a, b in zip(("params", "m", "v", "l1", "l2"), found, waiting):
        assert_same_bits(name, a, b)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_gradient_in_parts_is_that_of_the_row_with_zeros_between_them(optimizer):
    """Parts shorter and longer than a chunk, across its ends, one after the other and apart."""
    bounds = [(0, 3), (16, 16 + CHUNK), (160, 161), (176, 300), (300, 301 + 2 * CHUNK), (600, 640)]
    given, parts, whole = case(656), {}, torch.zeros(3, 656)
    for begin, end in bounds:
        whole[:, begin:end] = given["grads"][:, begin:end]
        parts[begin] = given["grads"][:, begin:end]  # not contiguous
    found = stepped(given, optimizer, "coupled", True, True, parts=parts)
    expected = stepped(given | {"grads": whole}, optimizer, "coupled", True, True)
    for name, a, b in zip(("params", "m", "v", "l1", "l2"), found, expected):
        assert_same_bits(name, a, b)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_member_whose_change_is_not_finite_stays_as_it_was(optimizer, bad):
    given = case(300)
    given["grads"][1, 299] = bad
    params, m, v, l1, _ = stepped(given, optimizer, "none", True, False)
    assert l1.isfinite().tolist() == [True, False, True]
    for name, found in (("params", params), ("m", m), ("v", v)):
        assert_same_bits(name, found[1], given[name][1])
    assert (params[[0, 2]] != given["params"][[0, 2]]).any(1).all()


def test_a_member_that_is_not_active_stays_as_it_was():
    given = case(300)
    params, m, v, l1, l2 = stepped(given, "adam", "none", False, True, torch.tensor([True, False, True]))
    for name, found in (("params", params), ("m", m), ("v", v)):
        assert_same_bits(name, found[1], given[name][1])
    assert l1[1] == l2[1] == 0
    assert l1[0] > 0


def test_bits_do_not_depend_on_other_members_or_on_threads(monkeypatch):
    monkeypatch.setattr(cpu, "WORTH_A_THREAD", 1)
    whole = stepped(case(1000, 5), "adam", "coupled", False, True)
    before = torch.get_num_threads()
    torch.set_num_threads(1 if before > 1 else 2)
    try:
        part = stepped(case(1000, 2), "adam", "coupled", False, True)
    finally:
        torch.set_num_threads(before)
    for name, a, b in zip(("params", "m", "v", "l1", "l2"), part, whole):
        assert_same_bits(name, a, b[:2])
