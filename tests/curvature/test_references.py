"""Tails of the paper's size against solvers and products that share no code with the library."""

import warnings

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from tails import flatten, loss_and_block, paper_tail, real_tail, split
from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # a dependency of it scripts functions when it is imported
    from curvlinops import HessianLinearOperator

from fastplast.curvature import measure, tail_hvp


def test_extreme_eigenvalues_are_those_of_an_iterative_solver_on_autograd_products():
    tail = paper_tail("relu", seed=6)
    curvature = measure(tail)
    loss, block = loss_and_block(tail)

    def product(vector):
        direction = torch.from_numpy(np.asarray(vector).reshape(-1).copy())
        return torch.func.jvp(torch.func.grad(loss), (block,), (direction,))[1].detach().numpy()

    operator = LinearOperator((len(block), len(block)), matvec=product, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(len(block))
    found = np.sort(eigsh(operator, 8, which="BE", v0=start, return_eigenvectors=False, tol=1e-11))
    values = curvature.eigenvalues[0].numpy()
    expected = np.concatenate((values[:4], values[-4:]))
    assert np.abs(found - expected).max() < 1e-10 * float(curvature.sharpness)


def test_products_are_those_of_autograd_at_full_size():
    tail = paper_tail("tanh", seed=7)
    loss, block = loss_and_block(tail)
    direction = torch.randn(len(block), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = torch.func.jvp(torch.func.grad(loss), (block,), (direction,))[1]
    parts = tail_hvp(tail, *(part.view(1, 1, *part.shape) for part in split(tail, direction)))
    product = torch.cat([part.flatten() for part in parts])
    assert float((product - expected).abs().max()) < 1e-12 * float(expected.abs().max())


def test_products_on_a_real_member_are_those_of_curvlinops():
    """A network trained on MNIST, whose tail curvlinops sees as a module of its own."""
    tail, _ = real_tail("mnist_shuffle", "relu")
    layers = nn.Linear(64, 32, dtype=torch.float64), nn.Linear(32, 10, dtype=torch.float64)
    parts = tail.hidden_weight, tail.hidden_bias, tail.output_weight, tail.output_bias
    parameters = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    for parameter, part in zip(parameters, parts):
        parameter.data = part[0].double()
    data = [(tail.inputs[0].double(), tail.labels[0])]
    operator = HessianLinearOperator(
        nn.Sequential(layers[0], nn.ReLU(), layers[1]), nn.CrossEntropyLoss(), parameters, data
    )
    directions = torch.randn(3, 2410, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    hidden, output = split(tail, directions)
    theirs = operator @ [
        part.movedim(0, -1) for part in (hidden[..., :-1], hidden[..., -1], output[..., :-1], output[..., -1])
    ]
    theirs = [part.movedim(-1, 0) for part in theirs]
    expected = flatten(
        torch.cat((theirs[0], theirs[1][..., None]), -1), torch.cat((theirs[2], theirs[3][..., None]), -1)
    )
    ours = flatten(*tail_hvp(tail, hidden.unsqueeze(0), output.unsqueeze(0)))[0]
    assert float((ours - expected).abs().max()) < 1e-12 * float(expected.abs().max())
