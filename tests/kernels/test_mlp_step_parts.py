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
from fastplast_kernels.mlp_step.activations import activate, exp, times_derivative
from fastplast_kernels.mlp_step.dense import dense_backward_input, dense_forward
from fastplast_kernels.mlp_step.loss import softmax_cross_entropy
from fastplast_kernels.mlp_step.simd import LANES, load, store
from mlp_case import make_case


@numba.njit(error_model="numpy")
def exp_all(values):
    for i in range(0, values.size, LANES):
        store(values, i, exp(load(values, i)))


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
    activate(CODES["tanh"], 0.0, y, 0, y.size)
    exact = np.tanh(x.astype(np.float64))
    assert (np.abs(y - exact) <= 2 * np.spacing(np.abs(exact).astype(np.float32))).all()
    y = floats(1e4, -1e4, math.inf, -math.inf, 3e38, 0.0, -0.0, math.nan)
    activate(CODES["tanh"], 0.0, y, 0, 8)
    assert y[:7].tolist() == [1, -1, 1, -1, 1, 0, 0]
    assert np.isnan(y[7])


@pytest.mark.parametrize("name", CODES)
def test_activations_and_derivatives_are_those_of_torch(name: str) -> None:
    function = {"relu": torch.relu, "leaky_relu": torch.nn.functional.leaky_relu, "tanh": torch.tanh}.get(name)
    x = torch.cat([torch.randn(1000), torch.tensor([0.0, -0.0, 5.0, -5.0, 30.0, -30.0, 1e-20, -1e-20])])
    x.requires_grad_()
    y = function(x) if function else x * 1
    upstream = torch.randn(len(x))
    y.backward(upstream)
    h, g = x.detach().numpy().copy(), upstream.numpy().copy()
    activate(CODES[name], 0.01, h, 0, len(h))
    times_derivative(CODES[name], 0.01, h, 0, g, 0, len(h))
    torch.testing.assert_close(torch.from_numpy(h), y.detach(), rtol=3e-7, atol=0)
    torch.testing.assert_close(torch.from_numpy(g), x.grad, rtol=1e-5, atol=2e-7)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "tanh"])
def test_not_a_number_passes_through_activations(name: str) -> None:
    h = np.full(8, np.nan, np.float32)
    activate(CODES[name], 0.01, h, 0, 8)
    assert np.isnan(h).all()


# Around the lanes of a vector, the vectors of a tile, and outputs and examples at a time.
INPUTS, OUTPUTS, BATCHES = (1, 5, 7, 8, 9, 16, 23, 130), (1, 2, 3, 4, 5, 7, 8, 9, 64), (1, 2, 3, 4, 5, 7, 16)


@pytest.mark.parametrize("inputs", INPUTS)
def test_dense_layers_are_matrix_products(inputs: int) -> None:
    wrong = [(o, b) for o, b in product(OUTPUTS, BATCHES) if not is_matrix_product(inputs, o, b)]
    assert not wrong, f"outputs and batches with {inputs} inputs"


def is_matrix_product(inputs: int, outputs: int, batch: int) -> bool:
    """Whether a layer and its backward pass are products, and write nothing beside them."""
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal(outputs * inputs + outputs).astype("f4"), rng.standard_normal((batch, 144)).astype("f4")
    d = rng.standard_normal((batch, 80)).astype("f4")
    y, dx = np.full((batch, 80), 7, "f4"), np.full((batch, 144), 7, "f4")
    bias = outputs * inputs
    dense_forward(w, 0, bias, x.ravel(), 0, 144, y.ravel(), 0, 80, batch, inputs, outputs)
    dense_backward_input(w, 0, d.ravel(), 0, 80, dx.ravel(), 0, 144, batch, inputs, outputs)
    weight = w[:bias].reshape(outputs, inputs).astype(np.float64)
    close = [
        np.allclose(y[:, :outputs], x[:, :inputs] @ weight.T + w[bias:], rtol=0, atol=1e-5),
        np.allclose(dx[:, :inputs], d[:, :outputs] @ weight, rtol=0, atol=1e-5),
    ]
    return all(close) and bool((y[:, outputs:] == 7).all() and (dx[:, inputs:] == 7).all())


def test_loss_of_huge_logits_is_exact_and_its_gradient_finite() -> None:
    logits = np.zeros((5, 16), np.float32)
    logits[0, :3] = 3e4, -3e4, 0
    logits[1, :3] = 1e30, -1e30, 0
    logits[2, :3] = -200, -300, -400
    logits[4, :3] = math.inf, 0, 0
    gradients = np.full_like(logits, 7)
    labels = np.array([1, 0, 2, 0, 0])

    def loss(first: int, end: int) -> tuple[float, int]:
        rows = slice(first, end)
        return softmax_cross_entropy(
            logits[rows].ravel(), 0, 16, labels[rows], gradients[rows].ravel(), 0, end - first, 3, 1.0
        )

    assert loss(0, 1) == (6e4, 1)
    assert loss(1, 2) == (0.0, 0)
    assert loss(2, 3) == (200.0, 1)
    value, errors = loss(3, 4)
    assert value == pytest.approx(math.log(3), rel=1e-7)
    assert errors == 0  # the first of equal logits counts, as in torch.argmax
    assert not math.isfinite(loss(4, 5)[0])
    np.testing.assert_allclose(gradients[0, :3], [1, -1, 0], atol=1e-7)
    np.testing.assert_allclose(gradients[3, :3], [-2 / 3, 1 / 3, 1 / 3], rtol=1e-6)
    assert (gradients[:, 3:] == 7).all()


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
