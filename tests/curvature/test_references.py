"""One tail of the paper's size against solvers that share no code with the library."""

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from tails import loss_and_block, paper_tail, split

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
