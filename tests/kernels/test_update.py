"""One optimiser step of many members against ``torch.optim`` in float64, one ordinary optimiser per member."""

from itertools import product

import pytest
import torch
from assertions import assert_close, assert_same_bits
from fastplast_kernels.optimisers import Hyperparameters
from fastplast_kernels.update import pull_gradient, update
from torch import Tensor

M, P, STEPS = 3, 40, 20
CASES = [
    (optimizer, decay, momentum)
    for optimizer, decay, momentum in product(("adam", "adamw", "sgd"), ("none", "coupled", "decoupled"), (False, True))
    if optimizer == "sgd" or not momentum
]


def hyperparameters(members: int = M, decay: bool = True, momentum: bool = True) -> Hyperparameters:
    """Other values for every member; those of a member do not depend on how many there are."""
    number = torch.arange(members, dtype=torch.float64)
    return Hyperparameters(
        learning_rate=1e-3 * 3**number,
        beta1=0.9 - 0.4 * number,
        beta2=0.999 - 0.2 * number,
        epsilon=1e-8 * 100**number,
        momentum=(0.9 - 0.2 * number) * momentum,
        weight_decay=0.1 * number * decay,
        strength=0.5 * number,
    )


def arena(seed: int = 0, members: int = M) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Parameters, zero moments, and gradients `[STEPS, M, P]` whose sizes span six orders of magnitude."""
    torch.manual_seed(seed)
    grads = torch.randn(STEPS, members, P) * 10.0 ** torch.randint(-5, 2, (members, P))
    return torch.randn(members, P), torch.zeros(members, P), torch.zeros(members, P), grads


def steps_of(count: int, members: int = M) -> Tensor:
    return torch.full((members,), count, dtype=torch.int64)


def ordinary(p: Tensor, grads: Tensor, h: Hyperparameters, m: int, optimizer: str, decay: str) -> list[Tensor]:
    """Member m's parameters after every step, by ``torch.optim`` in float64."""
    parameter = torch.nn.Parameter(p[m].double())
    rate, wd = float(h.learning_rate[m]), float(h.weight_decay[m])
    betas, eps = (float(h.beta1[m]), float(h.beta2[m])), float(h.epsilon[m])
    if optimizer == "sgd":
        own = torch.optim.SGD([parameter], rate, float(h.momentum[m]), weight_decay=wd if decay == "coupled" else 0.0)
    elif decay == "decoupled":
        own = torch.optim.AdamW([parameter], rate, betas, eps, wd)
    else:
        own = torch.optim.Adam([parameter], rate, betas, eps, wd)
    path = []
    for grad in grads[:, m].double():
        if optimizer == "sgd" and decay == "decoupled":
            parameter.data *= 1 - rate * wd
        parameter.grad = grad
        own.step()
        path.append(parameter.detach().clone())
    return path


@pytest.mark.parametrize(("optimizer", "decay", "momentum"), CASES)
def test_members_of_different_hyperparameters_equal_their_own_torch_optimisers(
    optimizer: str, decay: str, momentum: bool
) -> None:
    params, m, v, grads = arena()
    h, start = hyperparameters(decay=decay != "none", momentum=momentum), params
    paths = [ordinary(params, grads, h, i, optimizer, decay) for i in range(M)]
    for step, grad in enumerate(grads):
        params, m, v = update(params, grad, m, v, steps_of(step + 1), h, optimizer, decay == "decoupled")
        for i in range(M):
            expected, size = (
                paths[i][step],
                float((paths[i][step] - start[i]).abs().max()) + float(start[i].abs().max()),
            )
            assert_close(f"params of member {i} at step {step}", params[i], expected, length=step + 1, scale=size)


def test_a_first_step_of_adam_has_the_length_of_the_learning_rate_whatever_the_gradient() -> None:
    params, m, v, grads = arena()
    h = hyperparameters(decay=False)._replace(epsilon=torch.full((M,), 1e-30, dtype=torch.float64))
    new, _, _ = update(torch.zeros_like(params), grads[0], m, v, steps_of(1), h, "adam", False)
    assert_close("step", -new, h.learning_rate[:, None] * grads[0].sign())


def test_moments_are_exponential_averages() -> None:
    params, m, v, grads = arena()
    h = hyperparameters(decay=False)
    _, new_m, new_v = update(params, grads[0], m + 1, v + 1, steps_of(5), h, "adam", False)
    b1, b2, g = h.beta1[:, None], h.beta2[:, None], grads[0].double()
    assert_close("m", new_m, b1 + (1 - b1) * g)
    assert_close("v", new_v, b2 + (1 - b2) * g * g)
    _, buffer, same = update(params, grads[0], m + 1, v + 1, steps_of(5), h, "sgd", False)
    assert_close("momentum buffer", buffer, h.momentum[:, None] + g)
    assert_same_bits("v of sgd", same, v + 1)


def test_bias_correction_counts_each_members_own_steps() -> None:
    params, m, v, grads = arena()
    h, m, v = hyperparameters(), m + 0.1, v + 0.2
    mixed = update(params, grads[0], m, v, torch.tensor([1, 7, 30]), h, "adam", False)[0]
    for i, count in enumerate((1, 7, 30)):
        same = update(params, grads[0], m, v, steps_of(count), h, "adam", False)[0]
        assert_same_bits(f"member {i}", mixed[i], same[i])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_a_weight_decay_of_zero_is_none_to_the_bit(optimizer: str) -> None:
    params, m, v, grads = arena()
    plain = update(params, grads[0], m, v, steps_of(1), hyperparameters(decay=False), optimizer, False)
    mixed = update(params, grads[0], m, v, steps_of(1), hyperparameters(decay=True), optimizer, False)
    apart = update(params, grads[0], m, v, steps_of(1), hyperparameters(decay=False), optimizer, True)
    for name, a, b, c in zip(("params", "m", "v"), plain, mixed, apart):
        assert_same_bits(f"{name}, decay of others", b[0], a[0])
        assert_same_bits(f"{name}, decoupled", c, a)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("decoupled", [False, True])
def test_a_member_is_the_same_bits_alone_and_in_any_order(optimizer: str, decoupled: bool) -> None:
    params, m, v, grads = arena()
    h, turned = hyperparameters(), torch.tensor([2, 0, 1])
    together = update(params, grads[0], m, v, steps_of(3), h, optimizer, decoupled)
    shuffled = update(
        params[turned],
        grads[0][turned],
        m,
        v,
        steps_of(3),
        Hyperparameters(*(x[turned] for x in h)),
        optimizer,
        decoupled,
    )
    alone = update(params[1:2], grads[0][1:2], m[:1], v[:1], steps_of(3, 1), h.rows(slice(1, 2)), optimizer, decoupled)
    for name, a, b, c in zip(("params", "m", "v"), together, shuffled, alone):
        assert_same_bits(f"{name} in another order", b, a[turned])
        assert_same_bits(f"{name} alone", c[0], a[1])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_what_is_given_is_left_as_it_was(optimizer: str) -> None:
    params, m, v, grads = arena()
    before = [t.clone() for t in (params, grads[0], m, v)]
    update(params, grads[0], m, v, steps_of(1), hyperparameters(), optimizer, True)
    for name, a, b in zip(("params", "grads", "m", "v"), (params, grads[0], m, v), before):
        assert_same_bits(name, a, b)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_padding_stays_zero(optimizer: str) -> None:
    zero = torch.zeros(M, P)
    for tensor in update(zero, zero, zero, zero, steps_of(1), hyperparameters(), optimizer, False):
        assert_same_bits("padding", tensor, zero)


def test_a_member_that_is_not_finite_leaves_the_others_bits_alone() -> None:
    params, m, v, grads = arena()
    bad = grads[0].clone()
    bad[1] = float("nan")
    good = update(params, grads[0], m, v, steps_of(1), hyperparameters(), "adam", False)
    hurt = update(params, bad, m, v, steps_of(1), hyperparameters(), "adam", False)
    for a, b in zip(good, hurt):
        assert_same_bits("others", b[[0, 2]], a[[0, 2]])
        assert a[1].isfinite().all()
    assert hurt[0][1].isnan().all()


def test_pull_is_the_gradient_of_the_written_out_penalty() -> None:
    params, target = torch.randn(M, P), torch.randn(M, P)
    factor, strength = torch.rand(P), torch.tensor([0.0, 1e-3, 5.0], dtype=torch.float64)
    w = params.double().requires_grad_()
    penalty = (strength[:, None] * factor * (w - target) ** 2).sum()
    expected = torch.autograd.grad(penalty, w)[0]
    for i in range(M):
        assert_close(f"member {i}", pull_gradient(params, target, strength, factor)[i], expected[i])
    assert (pull_gradient(params, target, strength, factor)[0] == 0).all()


def test_hyperparameters_move_and_split_together() -> None:
    h = hyperparameters()
    assert [x.tolist() for x in h.rows(slice(1, 3))] == [x[1:].tolist() for x in h]
    assert all(x.device.type == "meta" for x in h.to("meta"))
