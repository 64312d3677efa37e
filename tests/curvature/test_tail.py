"""Closed forms of the tail against automatic differentiation and against numbers known on paper."""

import math

import pytest
import torch
from assertions import assert_close
from tails import flatten, loss_and_block, make_tail, outputs_and_block, split

from fastplast.curvature import Tail, tail_gradient, tail_hvp
from fastplast.curvature.tail import ACTIVATIONS, output_residual, softmax_hessian_product, tail_trace

F64 = torch.float64
SIZES = [
    {"examples": 7},
    {"examples": 3},
    {"examples": 1},
    {"examples": 40, "inputs": 3, "hidden": 9, "classes": 2},
    {"examples": 11, "inputs": 1, "hidden": 1, "classes": 5},
]


@pytest.fixture(params=ACTIVATIONS)
def activation(request):
    return request.param


@pytest.fixture(params=SIZES, ids=lambda sizes: "-".join(f"{k[0]}{v}" for k, v in sizes.items()))
def tail(request, activation):
    return make_tail(activation, members=2, **request.param)


def test_gradient_is_that_of_autograd(tail):
    gradient = flatten(*tail_gradient(tail))
    for m in range(2):
        loss, block = loss_and_block(tail, m)
        assert_close("gradient", gradient[m], torch.func.grad(loss)(block), dtype=F64, length=100)


def test_hessian_vector_product_is_the_hessian_of_autograd_times_the_vector(tail):
    directions = torch.randn(2, 3, tail.block_size, dtype=F64)
    products = flatten(*tail_hvp(tail, *split(tail, directions)))
    for m in range(2):
        loss, block = loss_and_block(tail, m)
        expected = directions[m] @ torch.func.hessian(loss)(block)
        assert_close("product", products[m], expected, dtype=F64, length=tail.block_size * 10)


def test_traces_are_those_of_gauss_newton_and_residual(tail):
    gauss_newton, residual = tail_trace(tail)
    for m in range(2):
        outputs, block = outputs_and_block(tail, m)
        loss, _ = loss_and_block(tail, m)
        jacobian, p = torch.func.jacrev(outputs)(block), outputs(block).softmax(-1)
        softmax = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
        expected = torch.einsum("ncd,nce,ned->", jacobian, softmax, jacobian) / len(p)
        hessian = torch.func.hessian(loss)(block)
        assert_close("tr G", gauss_newton[m], expected, dtype=F64, length=1000)
        assert_close("tr R", residual[m], hessian.trace() - expected, dtype=F64, length=1000, scale=float(expected))


def test_rescaling_a_unit_leaves_the_loss_so_the_hessian_along_it_is_the_gradient(activation):
    if activation == "tanh":
        pytest.skip("tanh is not homogeneous")
    tail = make_tail(activation, examples=30)
    _, block = loss_and_block(tail)
    hidden, output = split(tail, block)
    gradient_hidden, gradient_output = (part[0] for part in tail_gradient(tail))
    for unit in range(tail.hidden_weight.shape[1]):
        row, column = torch.zeros_like(hidden), torch.zeros_like(output)
        expected_row, expected_column = torch.zeros_like(hidden), torch.zeros_like(output)
        row[unit], column[:, unit] = hidden[unit], -output[:, unit]
        expected_row[unit], expected_column[:, unit] = -gradient_hidden[unit], gradient_output[:, unit]
        product = flatten(*(part[0, 0] for part in tail_hvp(tail, row[None, None], column[None, None])))
        scale = float(flatten(hidden, output).norm())
        assert_close("product", product, flatten(expected_row, expected_column), dtype=F64, length=100, scale=scale)


def test_a_constant_on_all_outputs_is_a_null_direction(activation):
    tail = make_tail(activation, examples=30)
    _, output = split(tail, torch.zeros(1, 1, tail.block_size, dtype=F64))
    output = output + torch.randn(1, 1, 1, output.shape[-1], dtype=F64)
    product = flatten(*tail_hvp(tail, torch.zeros(1, 1, 4, 6, dtype=F64), output))
    assert_close("product", product, torch.zeros_like(product), dtype=F64, length=30, scale=10.0)


@pytest.mark.parametrize("margin", [30.0, 300.0])
def test_confident_softmax_keeps_its_relative_accuracy(margin):
    tail = Tail(
        torch.zeros(1, 2, 1),
        torch.zeros(1, 1, 1),
        torch.zeros(1, 1),
        torch.zeros(1, 2, 1),
        torch.tensor([[margin, 0.0]]),
        torch.tensor([[0, 1]]),
    )
    small = math.exp(-margin) / (1 + math.exp(-margin))
    residual = output_residual(tail.state, tail.labels)[0]
    assert_close("right", residual[0] / small, torch.tensor([-1.0, 1.0]), dtype=F64)
    assert_close("wrong", residual[1], torch.tensor([1 - small, small - 1], dtype=F64), dtype=F64)
    variance = small * (1 - small)
    product = softmax_hessian_product(tail.state, torch.eye(2, dtype=F64).view(1, 2, 1, 2).expand(1, 2, 2, 2))
    expected = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    assert_close("S", product[0, :, 0] / variance, expected, dtype=F64)


def test_saturated_tanh_keeps_the_relative_accuracy_of_its_slope():
    tail = make_tail("tanh", examples=1, inputs=1, hidden=1)
    tail.hidden_weight.zero_()
    tail.hidden_bias.fill_(50.0)
    assert_close("slope", tail.state.slope / (4 * math.exp(-100)), torch.ones(1, 1, 1), dtype=F64, factor=100)


def test_wrong_tails_are_refused_with_the_rule():
    good = make_tail()
    fields = {
        name: getattr(good, name)
        for name in ("inputs", "hidden_weight", "hidden_bias", "output_weight", "output_bias", "labels")
    }
    with pytest.raises(ValueError, match=r"activation is unknown: got 'gelu'. Choose from relu, leaky_relu"):
        Tail(**fields, activation="gelu")
    with pytest.raises(ValueError, match=r"inputs must be \[M, N, I\] with M, N > 0: got shape \(7, 5\)"):
        Tail(**fields | {"inputs": good.inputs[0]})
    with pytest.raises(ValueError, match=r"hidden_bias must have shape \(1, 4\).*got \(1, 3\)"):
        Tail(**fields | {"hidden_bias": good.hidden_bias[:, :3]})
    with pytest.raises(ValueError, match=r"output_weight must have a row for each of at least 2 classes: got 1"):
        Tail(**fields | {"output_weight": good.output_weight[:, :1]})
    with pytest.raises(ValueError, match=r"labels must lie in 0..2, the rows of output_weight: got 0..3"):
        Tail(**fields | {"labels": torch.tensor([[0, 1, 2, 3, 0, 0, 0]])})
    with pytest.raises(ValueError, match=r"labels must be integers: got torch.float64"):
        Tail(**fields | {"labels": good.labels.double()})
