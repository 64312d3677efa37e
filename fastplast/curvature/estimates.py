"""What others report in place of the stable rank of the Hessian, on the same states, to compare with.

None of these is the paper's quantity: they leave out the residual part, count copies of one eigenvalue once, or take
the scatter of gradients for curvature.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.curvature.coordinates import coordinates
from fastplast.curvature.hessian import gauss_newton, tail_hessian
from fastplast.curvature.srank import stable_rank
from fastplast.curvature.tail import Tail, output_residual

LANCZOS_STEPS = 100


def empirical_fisher_rank(tail: Tail, threshold: float = 0.99) -> Tensor:
    """Stable rank of the matrix of per-example gradients of both layers' weights, biases left out.

    Its singular values are the roots of the eigenvalues of the Gram matrix over examples,
    ``(delta delta') * (a a') + (r r') * (h h')`` entry by entry, so no gradient is formed.

    Args:
        tail: of `M` members.
        threshold: of the stable rank.

    Returns:
        `[M]` int64.
    """
    state = tail.state
    residual = output_residual(state, tail.labels)
    delta = state.slope * (residual @ tail.output_weight)

    def gram(rows: Tensor) -> Tensor:
        return rows @ rows.transpose(1, 2)

    kernel = gram(delta) * gram(state.inputs[..., :-1]) + gram(residual) * gram(state.hidden[..., :-1])
    return stable_rank(torch.linalg.eigvalsh(kernel).clamp(min=0).sqrt(), threshold)


def gauss_newton_rank(tail: Tail, threshold: float = 0.99) -> Tensor:
    """Stable rank of the Gauss-Newton part alone, the Fisher matrix of the model's own labels.

    Args:
        tail: of `M` members.
        threshold: of the stable rank.

    Returns:
        `[M]` int64.
    """
    parts = [gauss_newton(coordinates(tail.member(m))) for m in range(tail.num_members)]
    return torch.stack([stable_rank(torch.linalg.eigvalsh(part), threshold) for part in parts])


def plain_lanczos_rank(tail: Tail, steps: int = LANCZOS_STEPS, threshold: float = 0.99) -> Tensor:
    """Stable rank of the Ritz values of Lanczos from one random vector, without reorthogonalisation.

    It sees one copy of each eigenvalue, later ghosts of the largest, and never more than `steps` values.

    Args:
        tail: of `M` members.
        steps: of the recurrence.
        threshold: of the stable rank.

    Returns:
        `[M]` int64.
    """
    return torch.stack([_plain_lanczos(matrix, steps, threshold) for matrix in tail_hessian(tail)])


def _plain_lanczos(matrix: Tensor, steps: int, threshold: float) -> Tensor:
    start = torch.randn(len(matrix), generator=torch.Generator().manual_seed(0), dtype=matrix.dtype)
    vector, before, beta = start.to(matrix.device) / start.norm(), matrix.new_zeros(len(matrix)), matrix.new_zeros(())
    alphas, betas = [], []
    for _ in range(min(steps, len(matrix))):
        product = matrix @ vector - beta * before
        alpha = product @ vector
        product = product - alpha * vector
        beta = torch.linalg.vector_norm(product)
        alphas.append(alpha)
        betas.append(beta)
        vector, before = product / beta.clamp(min=torch.finfo(matrix.dtype).tiny), vector
    off = torch.diag(torch.stack(betas[:-1]), 1) if len(betas) > 1 else 0.0
    tridiagonal = torch.diag(torch.stack(alphas)) + off
    return stable_rank(torch.linalg.eigvalsh(tridiagonal, UPLO="U"), threshold)
