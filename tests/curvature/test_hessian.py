"""The assembled Hessian against automatic differentiation, and what deflation must leave unchanged."""

import pytest
import torch
from assertions import assert_close
from tails import embedding, flatten, loss_and_block, make_tail, outputs_and_block, padded, paper_tail, split

from fastplast.curvature import Tail, hessian, tail_hessian, tail_hvp
from fastplast.curvature.compressed import compressed_dimension, compressed_hessian, is_compressible
from fastplast.curvature.coordinates import coordinates, helmert
from fastplast.curvature.hessian import CHUNK_BYTES, add_residual, gauss_newton, gradient, residual_part
from fastplast.curvature.tail import ACTIVATIONS

F64 = torch.float64


def spectra(tail):
    """Eigenvalues of the assembled and of autograd's Hessian, `[D]` each."""
    loss, block = loss_and_block(tail)
    expected = torch.linalg.eigvalsh(torch.func.hessian(loss)(block))
    return padded(torch.linalg.eigvalsh(tail_hessian(tail)[0]), len(block)), expected


def assert_spectra_agree(tail):
    actual, expected = spectra(tail)
    assert_close("eigenvalues", actual, expected, dtype=F64, length=10 * len(expected))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh"])
@pytest.mark.parametrize("sizes", [{"examples": 7}, {"examples": 4}, {"examples": 60, "hidden": 7, "classes": 5}])
def test_every_entry_is_that_of_autograd(activation, sizes):
    tail = make_tail(activation, **sizes, seed=3)
    loss, block = loss_and_block(tail)
    basis = embedding(tail)
    expected = basis.T @ torch.func.hessian(loss)(block) @ basis
    (actual,) = tail_hessian(tail)
    assert_close("hessian", actual, expected, dtype=F64, length=10 * len(block))
    assert torch.equal(actual, actual.T)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("examples", [1, 3, 7, 50])
def test_spectrum_is_that_of_autograd(activation, examples, classes):
    assert_spectra_agree(make_tail(activation, examples=examples, hidden=7, classes=classes))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_parts_are_gauss_newton_and_residual(activation):
    tail = make_tail(activation, examples=20, hidden=6)
    outputs, block = outputs_and_block(tail)
    loss, _ = loss_and_block(tail)
    jacobian, p = torch.func.jacrev(outputs)(block), outputs(block).softmax(-1)
    softmax = torch.diag_embed(p) - p.unsqueeze(2) * p.unsqueeze(1)
    expected = torch.einsum("ncd,nce,nef->df", jacobian, softmax, jacobian) / len(p)
    at = coordinates(tail)
    eigenvalues = padded(torch.linalg.eigvalsh(gauss_newton(at)), len(block))
    assert_close("G", eigenvalues, torch.linalg.eigvalsh(expected), dtype=F64, length=1000)

    residual = residual_part(at, tail.labels[0]).eigenvalues
    remainder = torch.linalg.eigvalsh(torch.func.hessian(loss)(block) - expected)
    kept = residual[residual.abs().sort(descending=True).indices[: len(block)]]
    assert_close("R", padded(kept, len(block)), remainder, dtype=F64, length=1000)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dead_and_repeated_parts_are_left_out_exactly(activation):
    tail = make_tail(activation, examples=30, inputs=6, hidden=7)
    tail.inputs[..., 1] = 0.0  # a dead input
    tail.inputs[..., 2] = tail.inputs[..., 4]  # repeated inputs
    tail.inputs[..., 3] = 0.25  # a second bias
    tail.hidden_weight[:, 2], tail.hidden_bias[:, 2] = 0.0, -1.0  # a dead unit of ReLU
    tail.hidden_weight[:, 3], tail.hidden_bias[:, 3] = 0.0, 0.0  # a unit with value 0
    tail.output_weight[:, :, 5] = 0.0  # a unit that no output hears
    tail.hidden_weight[:, 6], tail.hidden_bias[:, 6] = 0.0, 400.0  # a unit that tanh saturates beyond fp64
    assert_spectra_agree(tail)
    assert coordinates(tail).inputs.shape[1] == 4  # of 7
    assert coordinates(tail).dimension < 7 * 4 + 2 * 8 + 1


def test_collapsed_relu_network_has_a_small_matrix():
    tail = make_tail("relu", examples=30, hidden=7)
    tail.hidden_weight[:, 2:], tail.hidden_bias[:, 2:] = 0.0, -1.0
    tail.hidden_bias[:, :2] = 0.5
    at = coordinates(tail)
    assert at.dimension == 2 * 6 + 2 * 3
    assert_spectra_agree(tail)


def test_only_output_biases_are_left_of_a_dead_network():
    tail = make_tail("relu", examples=30)
    tail.hidden_bias[:] = -100.0
    assert coordinates(tail).dimension == 2  # of three classes
    assert_spectra_agree(tail)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "identity"])
def test_units_that_are_always_on_share_their_incoming_directions(activation):
    tail = make_tail(activation, examples=40, hidden=9)
    tail.hidden_bias[:, :6] = 50.0
    at = coordinates(tail)
    group = 9 if activation == "identity" else 6
    silent = group - 2
    assert at.slope.shape[1] - at.weight.shape[1] == silent
    assert at.dimension == (9 - silent) * 6 + silent * 2 + 2 * 10
    assert_spectra_agree(tail)


def test_identity_network_of_the_paper_has_at_most_1089_nonzero_eigenvalues():
    assert coordinates(paper_tail("identity")).dimension <= 1089


@pytest.mark.parametrize("classes", [2, 3, 10])
def test_helmert_basis_is_orthonormal_and_sums_to_zero(classes):
    basis = helmert(classes)
    assert_close("gram", basis.T @ basis, torch.eye(classes - 1), dtype=F64, length=classes)
    assert_close("sums", basis.sum(0), torch.zeros(classes - 1), dtype=F64, length=classes, scale=1.0)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_spectrum_does_not_depend_on_the_order_of_units_classes_and_examples(activation):
    tail = make_tail(activation, examples=20, hidden=6)
    units, classes, rows = torch.randperm(6), torch.randperm(3), torch.randperm(20).repeat(2)  # twice the same data
    shuffled = Tail(
        tail.inputs[:, rows],
        tail.hidden_weight[:, units],
        tail.hidden_bias[:, units],
        tail.output_weight[:, classes][:, :, units],
        tail.output_bias[:, classes],
        classes.argsort()[tail.labels][:, rows],
        activation,
        tail.negative_slope,
    )
    first, second = (torch.linalg.eigvalsh(tail_hessian(t)[0]) for t in (tail, shuffled))
    assert_close("eigenvalues", second, first, dtype=F64, length=1000)


@pytest.mark.parametrize("classes", [2, 3])
def test_compressed_coordinates_have_the_same_spectrum_and_gradient(classes):
    tail = make_tail("leaky_relu", examples=40, inputs=38, hidden=20, classes=classes)
    at, labels = coordinates(tail), tail.labels[0]
    assert is_compressible(at)
    residual = residual_part(at, labels)
    matrix, slope, norm = compressed_hessian(at, labels, residual)
    assert len(matrix) == compressed_dimension(at) < at.dimension / 2
    full = add_residual(gauss_newton(at), at, residual)
    expected = torch.linalg.eigvalsh(full)
    assert_close("eigenvalues", padded(torch.linalg.eigvalsh(matrix), len(full)), expected, dtype=F64, length=10**4)
    assert_close("|G|", norm, torch.linalg.vector_norm(gauss_newton(at)), dtype=F64, length=10**4)
    full_slope = gradient(at, labels, residual)
    assert_close("|g|", slope.norm(), full_slope.norm(), dtype=F64, length=1000)
    assert_close("g'Hg", slope @ matrix @ slope, full_slope @ full @ full_slope, dtype=F64, length=10**4)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_paper_size_agrees_with_hessian_vector_products(activation):
    tail = paper_tail(activation)
    basis = embedding(tail)
    vectors = torch.randn(3, basis.shape[1], dtype=F64)
    (matrix,) = tail_hessian(tail)
    loss, block = loss_and_block(tail)
    directions = vectors @ basis.T
    for vector, direction in zip(vectors, directions):
        _, expected = torch.func.jvp(torch.func.grad(loss), (block,), (direction,))
        assert_close("autograd", matrix @ vector, basis.T @ expected, dtype=F64, length=len(block))
    closed = flatten(*tail_hvp(tail, *split(tail, directions.unsqueeze(0))))[0]
    assert_close("closed form", vectors @ matrix, closed @ basis, dtype=F64, length=len(block))


def test_more_examples_than_fit_in_a_chunk_are_summed_in_chunks(monkeypatch):
    tail = make_tail("tanh", examples=50)
    (expected,) = tail_hessian(tail)
    chunks, original = [], hessian._chunks

    def spy(examples, width):
        chunks.append(original(examples, width))
        return chunks[-1]

    monkeypatch.setattr(hessian, "_chunks", spy)
    monkeypatch.setattr(hessian, "CHUNK_BYTES", CHUNK_BYTES // 2**15)
    (actual,) = tail_hessian(tail)
    assert [len(parts) > 1 for parts in chunks] == [True, True]  # the Gauss-Newton and the residual part
    assert_close("hessian", actual, expected, dtype=F64, length=50)
