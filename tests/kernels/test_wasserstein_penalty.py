"""The Wasserstein regulariser as a loss term of a module."""

import pytest
import torch
from fastplast_kernels.wasserstein import penalty, reference, sort_init, target, wasserstein_penalty
from torch import nn
from torch.func import grad, hessian, jvp, vmap

DTYPES = [torch.float32, torch.float64]  # one has a kernel, the other is the reference


def drifted(*shape, dtype=torch.float32):
    """Weights, and others from which they drifted."""
    torch.manual_seed(0)
    initial = torch.randn(shape, dtype=dtype)
    return initial + 0.3 * torch.randn(shape, dtype=dtype), initial


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_it_is_the_reference_on_a_weight_of_any_shape(dtype, reduction):
    w, initial = drifted(7, 5, 3, dtype=dtype)
    w.requires_grad_()
    expected = reference.penalty(w.flatten(), sort_init(initial), reduction)
    found = penalty(w, sort_init(initial), reduction)
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, w)
    roundings = 4 * torch.finfo(dtype).eps  # of a difference, a factor, a product
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, w)[0], rtol=roundings, atol=0)


def test_targets_are_the_bits_of_the_reference():
    w, initial = drifted(2, 3, 5000)
    for q0 in (initial.sort().values, initial[0, 0].sort().values):
        assert torch.equal(target(w, q0), reference.target(w, q0))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_stack_of_weights_is_each_weight_by_itself(dtype):
    w, initial = drifted(3, 20, 10, dtype=dtype)
    w.requires_grad_()
    anchors = vmap(sort_init)(initial)
    found = penalty(w, anchors)
    found.sum().backward()
    for m in range(3):
        alone = w[m].detach().requires_grad_()
        single = penalty(alone, anchors[m])
        single.backward()
        assert torch.equal(found[m], single)
        assert torch.equal(w.grad[m], alone.grad)


def test_rows_without_autograd_have_the_same_penalty_and_gradient():
    w, initial = drifted(3, 200)
    found, gradient = wasserstein_penalty(w, initial[0].sort().values, "sum")
    for m in range(3):
        assert torch.equal(found[m], penalty(w[m], sort_init(initial[0]), "sum"))
        assert torch.equal(gradient[m], grad(penalty)(w[m], sort_init(initial[0]), "sum"))


def test_it_is_zero_at_the_initial_weights_in_any_order():
    _, initial = drifted(30, 40)
    shuffled = initial.flatten()[torch.randperm(1200)].reshape(40, 30).requires_grad_()
    loss = penalty(shuffled, sort_init(initial))
    loss.backward()
    assert loss == 0
    assert (shuffled.grad == 0).all()


def test_first_and_second_derivatives_are_those_of_finite_differences():
    w, initial = drifted(6, 5, dtype=torch.float64)
    for function in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert function(lambda w: penalty(w, sort_init(initial)), w.requires_grad_())


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_is_that_of_autograd_through_the_sort(dtype):
    w, initial = drifted(40, 25, dtype=dtype)
    anchor = sort_init(initial)
    expected = grad(lambda w: (w.flatten().sort().values - anchor).square().mean())(w)
    torch.testing.assert_close(grad(penalty)(w, anchor), expected, rtol=4 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_vmap_of_grad_is_the_gradient_of_each_member(dtype):
    w, initial = drifted(4, 30, 30, dtype=dtype)
    rows = vmap(sort_init)(initial)
    mapped, shared = (vmap(grad(penalty), in_dims=(0, d))(w, q0) for d, q0 in ((0, rows), (None, rows[0])))
    for m in range(4):
        assert torch.equal(mapped[m], grad(penalty)(w[m], rows[m]))
        assert torch.equal(shared[m], grad(penalty)(w[m], rows[0]))


def test_vmap_nests_over_any_axes():
    w, initial = drifted(2, 3, 50)
    rows = initial.sort().values
    plain = torch.stack([torch.stack([penalty(w[a, b], rows[a, b]) for b in range(3)]) for a in range(2)])
    crossed = torch.stack([torch.stack([penalty(w[a, 0], rows[0, b]) for b in range(3)]) for a in range(2)])
    assert torch.equal(vmap(vmap(penalty))(w, rows), plain)
    assert torch.equal(vmap(vmap(penalty, in_dims=(1, 0)))(w.mT.contiguous(), rows), plain)
    assert torch.equal(vmap(vmap(penalty, in_dims=(None, 0)), in_dims=(0, None))(w[:, 0], rows[0]), crossed)
    assert torch.equal(vmap(vmap(penalty, in_dims=(0, None)), in_dims=(None, 0))(w[:, 0], rows[0]), crossed.T)


@pytest.mark.parametrize("dtype", DTYPES)
def test_directional_and_second_derivatives_of_torch_func(dtype):
    w, initial = drifted(25, dtype=dtype)
    anchor, direction = sort_init(initial), torch.linspace(-1, 1, 25, dtype=dtype)
    _, slope = jvp(lambda w: penalty(w, anchor), (w,), (direction,))
    torch.testing.assert_close(slope, grad(penalty)(w, anchor) @ direction)
    torch.testing.assert_close(hessian(penalty)(w, anchor), 2 / 25 * torch.eye(25, dtype=dtype))


def test_targets_carry_no_gradient():
    w, initial = drifted(3, 40)
    assert not target(w.requires_grad_(), initial.sort().values).requires_grad


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_weight_that_is_not_finite_spoils_its_own_penalty_only(dtype):
    w, initial = drifted(3, 40, dtype=dtype)
    rows = initial.sort().values
    clean = penalty(w, rows)
    w[1, 5] = torch.inf
    found, gradient = penalty(w, rows), vmap(grad(penalty))(w, rows)
    assert found.isnan().tolist() == [False, True, False]
    assert gradient.isnan().all(dim=1).tolist() == [False, True, False]
    assert torch.equal(found[[0, 2]], clean[[0, 2]])


def test_a_module_pulled_by_it_returns_to_the_initial_distribution():
    torch.manual_seed(0)
    layer = nn.Linear(12, 8)
    anchor = sort_init(layer.weight)
    with torch.no_grad():
        layer.weight.mul_(2).add_(0.1)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.25)
    for _ in range(60):
        optimiser.zero_grad()
        penalty(layer.weight, anchor, "sum").backward()
        optimiser.step()
    torch.testing.assert_close(sort_init(layer.weight), anchor)


def test_what_does_not_fit_is_refused():
    w, initial = drifted(4, 5)
    anchor = sort_init(initial)
    with pytest.raises(ValueError, match=r"sorted_init must hold as many values as w: got \(19,\) for w \(4, 5\)"):
        penalty(w, anchor[1:])
    with pytest.raises(ValueError, match=r"sorted_init must hold as many values as w: got \(1, 4, 5\) for w \(4, 5\)"):
        penalty(w, initial[None])
    with pytest.raises(ValueError, match="sorted_init must hold as many values as w"):
        wasserstein_penalty(w, anchor)
    with pytest.raises(ValueError, match="sorted_init must hold as many values as w"):
        target(w[:, :0], initial[:, :0])
    with pytest.raises(ValueError, match="sorted_init must lie where w does: got cpu and meta"):
        penalty(w.to("meta"), anchor)
    with pytest.raises(TypeError, match="w and sorted_init must be floating: got torch"):
        penalty(w.long(), anchor)
    for call in (penalty, lambda *a: wasserstein_penalty(w, initial, a[2])):
        with pytest.raises(ValueError, match="reduction must be mean or sum: got 'max'"):
            call(w, anchor, "max")
