"""Diagnostics of the field that are measured on request: one function each, from a snapshot to numbers by column."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import grad, jacrev
from torch.nn import functional

from fastplast.config.definitions import DEFINITIONS_ON_REQUEST as _DEFINED
from fastplast.config.definitions import GRADIENT_DORMANT, KERNEL_EXAMPLES, SATURATED
from fastplast.curvature import matrix_stable_rank
from fastplast.measuring.metric import Metric, Snapshot
from fastplast.measuring.probes import DORMANT_THRESHOLD
from fastplast.networks import ModuleNetwork

_AT_ONCE = 256  # examples of a backward pass


def effective_rank(matrix: Tensor) -> float:
    """The exponential of the entropy of singular values as shares of their sum (Roy and Vetterli 2007).

    Args:
        matrix: of any two sizes.

    Returns:
        The rank; 0 of a zero matrix, NaN where a number is not finite.
    """
    if not bool(matrix.isfinite().all()):
        return float("nan")
    values = torch.linalg.svdvals(matrix.double())
    total = values.sum()
    return float(torch.special.entr(values / total).sum().exp()) if total > 0 else 0.0


def _effective_ranks(seen: Snapshot) -> dict[str, float]:
    found = {f"feature_effective_rank_{name}": effective_rank(h) for name, h in seen.evaluation.features.items()}
    return found | {f"weight_effective_rank_{name}": effective_rank(w) for name, w in seen.weights.items()}


def _layer_units(seen: Snapshot) -> dict[str, float]:
    columns = {}
    for name, magnitude in seen.evaluation.magnitudes.items():
        columns[f"dormant_fraction_{name}"] = _share(magnitude, DORMANT_THRESHOLD)
        is_finite = bool(magnitude.isfinite().all())
        columns[f"dead_fraction_{name}"] = float((magnitude == 0).double().mean()) if is_finite else float("nan")
    return columns


def _share(sizes: Tensor, threshold: float) -> float:
    """The share of units whose size is at most so many times the mean of their layer; 1 where all are zero."""
    if not bool(sizes.isfinite().all()):
        return float("nan")
    mean = sizes.mean()
    return float((sizes <= threshold * mean).double().mean())


def _saturation(seen: Snapshot) -> dict[str, float]:
    return {f"saturation_{name}": float((h.abs() > SATURATED).double().mean()) for name, h in seen.activations.items()}


def _sign_entropy(seen: Snapshot) -> dict[str, float]:
    columns = {}
    for name, h in seen.activations.items():
        share = (h > 0).double().mean((0, *range(2, h.ndim)))
        columns[f"sign_entropy_{name}"] = float((torch.special.entr(share) + torch.special.entr(1 - share)).mean())
    return columns


def _gradient(seen: Snapshot, examples: slice = slice(None)) -> dict[str, Tensor]:
    """The gradient of the mean loss over some of the task's examples, by name of a parameter."""
    parameters, x = _parameters(seen)
    x, y = x[examples], seen.labels[examples]
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for part_x, part_y in zip(x.split(_AT_ONCE), y.split(_AT_ONCE)):
        found = grad(seen.loss_of)(parameters, part_x, part_y)
        for name, value in found.items():
            total[name] += value * (len(part_x) / len(x))
    return total


def _parameters(seen: Snapshot) -> tuple[dict[str, Tensor], Tensor]:
    """Parameters by name and inputs, in float64 where the network can compute in it."""
    network = seen.network
    dtype = network.measuring_dtype if isinstance(network, ModuleNetwork) else torch.float64
    return network.layout.views(seen.params.to(dtype)), seen.inputs.to(dtype)


def _gradient_dormancy(seen: Snapshot) -> dict[str, float]:
    weights = [slot.name for slot in seen.network.layout.slots if slot.is_weight][:-1]
    found = _gradient(seen)
    return {
        f"gradient_dormant_fraction_{name.removesuffix('.weight')}": _share(
            found[name].flatten(1).abs().mean(1), GRADIENT_DORMANT
        )
        for name in weights
    }


def _spectral_norms(seen: Snapshot) -> dict[str, float]:
    return {
        f"spectral_norm_{name}": float(torch.linalg.matrix_norm(w, 2)) if bool(w.isfinite().all()) else float("nan")
        for name, w in seen.weights.items()
    }


def _tangent_kernel(seen: Snapshot) -> tuple[Tensor, Tensor]:
    """The Gram matrix `[nC, nC]` of the outputs' gradients on the first examples, and their outputs `[n, C]`."""
    parameters, x = _parameters(seen)
    x = x[:KERNEL_EXAMPLES]

    def outputs(part: Tensor, name: str) -> Tensor:
        return seen.outputs(parameters | {name: part}, x)

    logits = seen.outputs(parameters, x).detach()
    kernel = torch.zeros(logits.numel(), logits.numel(), dtype=logits.dtype)
    for name, value in parameters.items():  # one at a time bounds memory
        rows = jacrev(outputs)(value, name).reshape(logits.numel(), -1)
        kernel += rows @ rows.T
    return kernel.double(), logits.double()


def _rank(matrix: Tensor) -> float:
    found = int(matrix_stable_rank(matrix)) if bool(matrix.isfinite().all()) else -1
    return float("nan") if found < 0 else float(found)


def _ntk_rank(seen: Snapshot) -> float:
    return _rank(_tangent_kernel(seen)[0])


def _gauss_newton_rank(seen: Snapshot) -> float:
    kernel, logits = _tangent_kernel(seen)
    if not bool(logits.isfinite().all()):
        return float("nan")
    count, classes = logits.shape
    if seen.task.loss == "cross_entropy":
        share = logits.softmax(1)
        values, vectors = torch.linalg.eigh(torch.diag_embed(share) - share[:, :, None] * share[:, None, :])
        roots = vectors * values.clamp(min=0).sqrt()[:, None, :] @ vectors.mT
    else:
        roots = torch.eye(classes, dtype=torch.float64).expand(count, classes, classes) * (2.0 / classes) ** 0.5
    root = torch.block_diag(*roots)
    return _rank(root @ kernel @ root / count)


def _churn(seen: Snapshot) -> float:
    """What the next update, on the first examples as a minibatch, would change of the outputs on the others."""
    network, size = seen.network, seen.batch_size
    step = seen.step(network.layout.row(_gradient(seen, slice(size))).float())
    parameters, x = _parameters(seen)
    x = x[size:]
    if not len(x):
        return float("nan")
    before = seen.outputs(parameters, x).double()
    after = seen.outputs(network.layout.views(step.to(x.dtype)), x).double()
    if seen.task.loss == "cross_entropy":
        logs = (after.log_softmax(1), before.log_softmax(1))
        return float(functional.kl_div(*logs, reduction="batchmean", log_target=True))
    return float(functional.mse_loss(after, before))


DIAGNOSTICS: dict[str, Metric] = {
    "effective_rank": Metric(_effective_ranks, _DEFINED["effective_rank"], "directions", runs_network=False),
    "layer_units": Metric(_layer_units, _DEFINED["layer_units"], "fraction", runs_network=False),
    "saturation": Metric(_saturation, _DEFINED["saturation"], "fraction", runs_network=False),
    "sign_entropy": Metric(_sign_entropy, _DEFINED["sign_entropy"], "nats", runs_network=False),
    "gradient_dormancy": Metric(_gradient_dormancy, _DEFINED["gradient_dormancy"], "fraction"),
    "spectral_norm": Metric(_spectral_norms, _DEFINED["spectral_norm"], reads="weights", runs_network=False),
    "ntk_rank": Metric(_ntk_rank, _DEFINED["ntk_rank"], "directions"),
    "gauss_newton_rank": Metric(_gauss_newton_rank, _DEFINED["gauss_newton_rank"], "directions"),
    "churn": Metric(_churn, _DEFINED["churn"]),
}
