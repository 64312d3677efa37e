"""The parts of the fused training step: functions of vectors, the loss at its extremes, refusals, the code cache."""

import math
from dataclasses import replace
from itertools import product

import numba
import numpy as np
import pytest
import torch
from fastplast_kernels import workers
from fastplast_kernels.constants import CODES
from fastplast_kernels.train_step import DenseLayer
from fastplast_kernels.train_step.cpu.activations import CRELU, activate, exp, times_derivative
from fastplast_kernels.train_step.cpu.conv import backward_row, forward_row
from fastplast_kernels.train_step.cpu.inputs import find_nonzero, stride
from fastplast_kernels.train_step.cpu.loss import softmax_cross_entropy
from fastplast_kernels.train_step.cpu.pixels import block_of, forward_pixels
from fastplast_kernels.train_step.cpu.plan import plan
from fastplast_kernels.train_step.cpu.records import layer_of
from fastplast_kernels.train_step.cpu.simd import LANES, load, pointer, store
from mlp_case import make_case


@numba.njit(error_model="numpy")
def exp_all(values):
    for i in range(0, values.size, LANES):
        store(values, i, exp(load(values, i)))


@numba.njit(error_model="numpy")
def activate_all(code, slope, values):
    """Of as many pixels of one channel as there are vectors; with CReLU of one pixel, which gets a second channel."""
    pixels = 1 if code == CRELU else values.size // LANES
    activate(code, slope, values, 0, values, 0, pixels, LANES, 1)


@numba.njit(error_model="numpy")
def times_derivative_all(code, slope, activations, gradients):
    """The result takes the place of the activations."""
    pixels = 1 if code == CRELU else gradients.size // LANES
    times_derivative(code, slope, gradients, 0, activations, 0, pixels, LANES, 1)


@numba.njit(error_model="numpy")
def loss_of(logits, classes, labels, count, factor, memory):
    return softmax_cross_entropy(logits, 0, classes, labels, 0, count, factor, memory)


def floats(*values: float) -> np.ndarray:
    """Values, repeated to whole vectors."""
    row = np.array(values, np.float32)
    return np.resize(row, -(-len(row) // LANES) * LANES)


def test_exp_is_within_two_ulp() -> None:
    x = np.linspace(-87, 88, 8 * 20000).astype(np.float32)
    y = x.copy()
    exp_all(y)
    assert np.abs(y / np.exp(x.astype(np.float64)) - 1).max() < 2.4e-7


def test_tanh_is_within_two_ulp_and_saturates() -> None:
    x = np.concatenate([np.linspace(-12, 12, 8 * 20000), np.geomspace(1e-30, 1, 80000)]).astype(np.float32)
    y = x.copy()
    activate_all(CODES["tanh"], 0.0, y)
    exact = np.tanh(x.astype(np.float64))
    assert (np.abs(y - exact) <= 2 * np.spacing(np.abs(exact).astype(np.float32))).all()
    y = floats(1e4, -1e4, math.inf, -math.inf, 3e38, 0.0, -0.0, math.nan)
    activate_all(CODES["tanh"], 0.0, y)
    assert y[:7].tolist() == [1, -1, 1, -1, 1, 0, 0]
    assert np.isnan(y[7])


@pytest.mark.parametrize("name", CODES)
def test_activations_and_derivatives_are_those_of_torch(name: str) -> None:
    functions = {
        "relu": torch.relu,
        "leaky_relu": torch.nn.functional.leaky_relu,
        "tanh": torch.tanh,
        "crelu": lambda x: torch.cat((torch.relu(x), torch.relu(-x))),
        "identity": lambda x: x * 1,
    }
    x = torch.cat([torch.randn(1000), torch.tensor([0.0, -0.0, 5.0, -5.0, 30.0, -30.0, 1e-20, -1e-20])])
    x = x.resize_(LANES).clone() if name == "crelu" else x  # a channel, which becomes two
    x.requires_grad_()
    y = functions[name](x)
    upstream = torch.randn(len(y))
    y.backward(upstream)
    h, g = np.zeros(len(y), np.float32), upstream.numpy().copy()
    h[: len(x)] = x.detach().numpy()
    activate_all(CODES[name], 0.01, h)
    torch.testing.assert_close(torch.from_numpy(h), y.detach(), rtol=3e-7, atol=0)
    times_derivative_all(CODES[name], 0.01, h, g)
    torch.testing.assert_close(torch.from_numpy(h[: len(x)]), x.grad, rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "tanh"])
def test_not_a_number_passes_through_activations(name: str) -> None:
    h = np.full(LANES, np.nan, np.float32)
    activate_all(CODES[name], 0.01, h)
    assert np.isnan(h).all()


# Around the lanes of a vector, the vectors of a tile, and outputs and examples at a time.
INPUTS, OUTPUTS, BATCHES = (1, 5, 15, 16, 17, 130), (1, 2, 3, 4, 5, 7, 8, 9, 16, 33, 64, 130), (1, 3, 4, 5, 7, 16, 21)


@numba.njit(error_model="numpy")
def run_dense(network, params, images, zeros, row, below):
    """Both passes of layer 1, which sees images."""
    taps, params, images, zeros = pointer(network.taps), pointer(params), pointer(images), pointer(zeros)
    layer, zero = layer_of(network, 1), np.int64(0)
    forward_row(layer, 0, taps, params, images, zero, pointer(row), zero)
    backward_row(layer, 0, taps, params, images, zero, zeros, pointer(below), zero)


@numba.njit(error_model="numpy")
def run_pixels(network, sparse, params, scratch, batch, y):
    layer = layer_of(network, 0)
    find_nonzero(layer.channels, batch, block_of(layer.row), scratch)
    inputs, pixels = pointer(scratch.inputs), pointer(scratch.pixels)
    room = scratch.pixels.shape[1]
    forward_pixels(layer, sparse, pointer(params), inputs, batch, pixels, room, scratch.ends, pointer(y))


@pytest.mark.parametrize("inputs", INPUTS)
def test_dense_layers_are_matrix_products(inputs: int) -> None:
    wrong = [o for o in OUTPUTS if not is_matrix_product(inputs, o)]
    assert not wrong, f"outputs with {inputs} inputs"


def is_matrix_product(inputs: int, outputs: int) -> bool:
    """Whether a layer and its backward pass are products, and write nothing beside them."""
    rng = np.random.default_rng(0)
    own = plan((DenseLayer(1, inputs, 0, 0), DenseLayer(inputs, outputs, 0, 0)), LANES)
    layer, params = own.layers[1], rng.standard_normal(own.network.size).astype("f4")
    images = rng.standard_normal(own.network.group).astype("f4")
    y, dx = np.full((outputs + 1, LANES), 7, "f4"), np.full((inputs + 1, LANES), 7, "f4")
    run_dense(own.network, params, images, np.zeros(inputs + LANES, "f4"), y.ravel(), dx.ravel())
    weight = params[layer.weight : layer.weight + inputs * layer.row].reshape(inputs, -1)[:, :outputs].astype(float)
    x, d = (
        images[at : at + LANES * n].reshape(n, LANES) for at, n in ((layer.x, inputs), (layer.y, outputs))
    )  # fmt: skip
    bias = params[layer.bias : layer.bias + outputs, None]
    close = is_close(y[:-1], weight.T, x, bias) and is_close(dx[:-1], weight, d)
    return close and bool((y[-1] == 7).all() and (dx[-1] == 7).all())


def is_close(found: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray | float = 0.0) -> bool:
    """Whether it is a b + c, each sum to a few units of the last place of the sum of its terms' sizes."""
    size = np.abs(a) @ np.abs(b).astype(float) + np.abs(c)
    return bool((np.abs(found - (a @ b + c)) <= 4 * np.finfo(np.float32).eps * size).all())


@pytest.mark.parametrize("inputs", INPUTS)
def test_first_layers_are_matrix_products_with_and_without_zeros_to_the_bit(inputs: int) -> None:
    wrong = [(o, b) for o, b in product(OUTPUTS, BATCHES) if not is_product_of_pixels(inputs, o, b)]
    assert not wrong, f"outputs and batches with {inputs} inputs"


def is_product_of_pixels(inputs: int, outputs: int, batch: int) -> bool:
    rng = np.random.default_rng(0)
    own = plan((DenseLayer(inputs, outputs, 0, 0),), batch)
    layer, params = own.layers[0], rng.standard_normal(own.network.size).astype("f4")
    scratch, width = own.scratch(inputs), stride.py_func(inputs)
    x = scratch.inputs[: batch * width].reshape(batch, width)
    x[:, :inputs] = rng.standard_normal((batch, inputs)) * (rng.random((batch, inputs)) < 0.4)
    results = []
    for sparse in (False, True):
        y = np.full((batch + 1, layer.row), 7, "f4")
        run_pixels(own.network, sparse, params, scratch, batch, y.ravel())
        results.append(y)
    weight = params[layer.weight : layer.weight + inputs * layer.row].reshape(inputs, -1).astype(float)
    close = is_close(results[0][:-1], x[:, :inputs], weight, params[layer.bias : layer.bias + layer.row])
    same = np.array_equal(*(y.view("u4") for y in results))
    return bool(close and same and (results[0][-1] == 7).all())


def test_small_terms_of_the_softmax_are_not_lost_beside_the_greatest() -> None:
    """Of a network that has learned its examples they are all that is left of the gradient."""
    small = -17.0  # its exponential is less than half a rounding of 1
    group = np.full((10, LANES), small, np.float32)
    group[0] = 0.0
    loss, _ = loss_of(group.ravel(), 10, np.zeros(LANES, np.int64), LANES, np.float32(1), np.zeros(LANES, np.float32))
    others = 9 * math.exp(small)
    np.testing.assert_allclose(-group[0], others / (1 + others), atol=6e-8)  # a rounding of 1
    np.testing.assert_allclose(loss, LANES * math.log1p(others), atol=LANES * 6e-8)


def test_loss_of_huge_logits_is_exact_and_its_gradient_finite() -> None:
    logits = np.zeros((5, 3), np.float32)
    logits[0] = 3e4, -3e4, 0
    logits[1] = 1e30, -1e30, 0
    logits[2] = -200, -300, -400
    logits[4] = math.inf, 0, 0
    gradients, labels = np.empty_like(logits), np.array([1, 0, 2, 0, 0])

    def loss(first: int, end: int) -> tuple[float, int]:
        group, memory = np.full((4, LANES), 7, np.float32), np.zeros(LANES, np.float32)
        group[:3, : end - first] = logits[first:end].T
        found = loss_of(group.ravel(), 3, labels[first:end], end - first, np.float32(1 / (end - first)), memory)
        gradients[first:end] = group[:3, : end - first].T
        assert (group[:3, end - first :] == 0).all()
        assert (group[3] == 7).all()
        return found

    assert loss(0, 1) == (6e4, 1)
    assert loss(1, 2) == (0.0, 0)
    assert loss(2, 3) == (200.0, 1)
    value, errors = loss(3, 4)
    assert value == pytest.approx(math.log(3), rel=1e-7)
    assert errors == 0  # the first of equal logits counts, as in torch.argmax
    assert not math.isfinite(loss(4, 5)[0])
    np.testing.assert_allclose(gradients[0], [1, -1, 0], atol=1e-7)
    np.testing.assert_allclose(gradients[3], [-2 / 3, 1 / 3, 1 / 3], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"optimizer": "lion"}, ValueError, "optimizer is unknown: got 'lion'. Choose one of adam, adamw, sgd."),
        ({"params": torch.zeros(3, 8, dtype=torch.float64)}, TypeError, "params must be a contiguous torch.float32"),
        ({"m": torch.zeros(2, 8)}, ValueError, r"m must have shape \(3, \d+\): got \(2, 8\)"),
        ({"layers": ()}, ValueError, r"layers must not be empty: got \[\]"),
        ({"order": torch.full((3, 1, 4), 50)}, ValueError, r"order must lie in -1..49: got 50..50"),
        ({"order": torch.full((3, 1, 4), -1)}, ValueError, "order must start every batch with an example: got -1"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        replace(make_case(), **changes).train()


def test_a_strength_without_an_anchor_is_refused() -> None:
    case = make_case()
    case.hyper.strength[1] = 1
    with pytest.raises(ValueError, match="anchor must be given where a strength is not 0: got None"):
        case.train()


def test_layers_that_do_not_follow_each_other_are_refused() -> None:
    case = make_case()
    with pytest.raises(ValueError, match="layer 1 must have 21 inputs: got 20"):
        replace(case, layers=(case.layers[0], replace(case.layers[1], inputs=20), case.layers[2])).train()
    with pytest.raises(ValueError, match="activation is unknown: got 'gelu'"):
        replace(case, layers=(replace(case.layers[0], activation="gelu"), *case.layers[1:])).train()


def test_an_error_in_one_thread_reaches_the_caller() -> None:
    def work(counter: np.ndarray, thread: int) -> None:
        raise RuntimeError(f"thread {thread}")

    with pytest.raises(RuntimeError, match="thread"):
        workers.run(work, members=3, threads=2)
