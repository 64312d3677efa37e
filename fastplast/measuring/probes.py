"""Measurements of a group at a task's start or end: weights, features and curvature to one number per member.

Every metric has one definition, kept here and written beside the results. Measurement arithmetic is float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fastplast.curvature import matrix_stable_rank
from fastplast.engines.base import Accumulators, GroupState
from fastplast.networks import AnyNetwork, ModuleNetwork
from fastplast.networks.layout import Layout
from fastplast.problems import Task

DORMANT_THRESHOLD = 0.1  # tau of ReDo (Sokar et al. 2023)

# {layer} stands for the name of a layer. Metrics of weights alone are measured at task end and before task 0: the start
# of a task finds the weights of the end of the one before.
DEFINITIONS: dict[str, str] = {
    "loss": "mean cross-entropy over all examples of the task, regulariser left out",
    "error": "fraction of all examples of the task that are misclassified; at task end this is J_K of the paper",
    "test_loss": "mean cross-entropy over the task's test examples, which are never trained on",
    "test_error": "fraction of the task's test examples that are misclassified",
    "penalty": "the regulariser's penalty, strength included",
    "online_loss": "mean over the task's updates of the batch loss before the update",
    "online_error": "mean over the task's updates of the misclassified fraction of the batch before the update",
    "update_l1_mean": "mean over updates of the mean absolute change of a parameter in one update",
    "update_l2_mean": "mean over updates of the Euclidean length of the change of all parameters in one update",
    "displacement_l1": "mean absolute difference of a parameter between the end and the start of the task",
    "displacement_l2": "Euclidean distance of all parameters between the end and the start of the task",
    "init_distance_l1": "mean absolute difference of a parameter from its initial value",
    "init_distance_l2": "Euclidean distance of all parameters from their initial values",
    "weight_norm_l1": "mean absolute value of a parameter, biases included",
    "weight_norm_l2": "Euclidean norm of all parameters",
    "weight_norm_l1_{layer}": "mean absolute value of the elements of the layer's weight matrix",
    "weight_srank_{layer}": "stable rank of the layer's weight matrix (kernels flattened per output): least j such "
    "that the j largest singular values make up more than 99% of their sum",
    "feature_srank_{layer}": "stable rank of the examples x units matrix of the layer's post-activation features over "
    "all examples of the task; features of a convolution are averaged over space",
    "activation_entropy": "entropy, natural logarithm, of the share of each unit of the last hidden layer in the "
    "data-averaged absolute activation of that layer; 0 where all are zero",
    "dormant_fraction": "fraction of hidden units whose data-averaged absolute activation is at most 0.1 times its "
    "mean over their layer (ReDo score, tau 0.1; a unit of a convolution is a channel)",
    "dead_fraction": "fraction of hidden units that are exactly zero on every example of the task",
    "hessian_srank": "stable rank of the exact Hessian of the mean data loss over the whole task with respect to the "
    "weights and biases of the last two layers; 0 for a zero Hessian",
    "hessian_srank_lo": "certified lower bound of hessian_srank",
    "hessian_srank_hi": "certified upper bound of hessian_srank",
    "hessian_zero": "whether that Hessian is exactly zero",
    "hessian_sharpness": "largest absolute eigenvalue of that Hessian; by a method other than exact, of the part of it "
    "that was solved, which is a lower bound",
    "hessian_nuclear_norm": "sum of the absolute eigenvalues of that Hessian; by a method other than exact, the "
    "estimate of it that hessian_srank rests on",
    "hessian_frobenius_norm": "root of the sum of the squared eigenvalues of that Hessian",
    "hessian_trace": "trace of that Hessian",
    "hessian_negative_mass": "share of the nuclear norm held by negative eigenvalues of what was solved",
    "hessian_overlap": "g'Hg / (|g| |Hg|), g the gradient of the mean data loss over the whole task in the same block",
    "hessian_dimension": "dimension of the space left to the eigenvalue solver after exact deflation",
    "hessian_depth": "eigenvalues computed: hessian_dimension by the exact method, otherwise the size of the basis",
    "hessian_trace_error": "|sum of eigenvalues - trace| / nuclear norm, the trace from the data alone",
    "hessian_frobenius_error": "|sum of squared eigenvalues - squared Frobenius norm| / squared Frobenius norm",
    "hessian_assembly_error": "disagreement of the assembled Hessian's product with the gradient and the closed form "
    "of that product, relative to the Frobenius norm",
    "hessian_method": "how the stable rank was computed: exact (all eigenvalues), truncated, lanczos or residual "
    "(certified bounds from a part)",
}


@dataclass(frozen=True)
class Evaluation:
    """One member on all examples of a task, float64.

    Attributes:
        loss: mean cross-entropy.
        error: misclassified fraction.
        features: name of hidden layer to post-activation features `[N, F]`; a convolution's averaged over space.
        magnitudes: name to data-averaged absolute activation `[F]`.
        tail_inputs: `[N, I]`, what enters the last two layers.
    """

    loss: float
    error: float
    features: dict[str, Tensor]
    magnitudes: dict[str, Tensor]
    tail_inputs: Tensor


def member_inputs(task: Task, member: int) -> Tensor:
    """All inputs of one member, `[N, I]` float32: what training sees."""
    x = task.images[task.rows[member]].float() * task.scale + task.shift
    return x if task.pixels is None else x[:, task.pixels[member]]


@torch.no_grad()
def evaluate(network: AnyNetwork, row: Tensor, task: Task, member: int) -> Evaluation:
    """Runs one member over all examples of a task; its numbers do not depend on the other members.

    Dense layers run in float64. Convolutions run in float32, as in training: in float64 they take five times as long
    and change no metric beyond its sixth digit.

    Args:
        network: of the group.
        row: `[P]` float32 parameters of the member.
        task: whose examples.
        member: its position in the task's tables.

    Returns:
        What it did.
    """
    x, labels = member_inputs(task, member), task.labels[member]
    if isinstance(network, ModuleNetwork):
        network.train(False)
    logits, found = network.forward(row, x, torch.float64)
    loss = functional.cross_entropy(logits, labels)
    features, magnitudes = {}, {}
    for name, h in zip(network.feature_names, found):
        space = tuple(range(2, h.ndim))
        h = h.double()
        features[name] = h.mean(space) if space else h
        magnitudes[name] = h.abs().mean((0, *space))
    error = (logits.argmax(1) != labels).double().mean() if bool(logits.isfinite().all()) else torch.tensor(torch.nan)
    below = found[-2].flatten(1) if len(found) > 1 else x
    return Evaluation(float(loss), float(error), features, magnitudes, below.double())


def test_columns(network: AnyNetwork, row: Tensor, task: Task, member: int) -> dict[str, float]:
    """Metrics on a task's test examples.

    Args:
        network: of the group.
        row: `[P]` float32 parameters of the member.
        task: whose test examples.
        member: its position in the task's tables.

    Returns:
        Column to value; empty where a task has no test examples.
    """
    test = task.test
    if test is None:
        return {}
    found = evaluate(network, row, test, member)
    return {"test_loss": found.loss, "test_error": found.error}


def data_columns(evaluation: Evaluation) -> dict[str, float]:
    """Metrics of features that need all examples of the task.

    Args:
        evaluation: of one member.

    Returns:
        Column to value.
    """
    columns: dict[str, float] = {}
    for name, h in evaluation.features.items():
        columns[f"feature_srank_{name}"] = _matrix_srank(h)
    if not evaluation.magnitudes:
        return columns
    if not all(bool(magnitude.isfinite().all()) for magnitude in evaluation.magnitudes.values()):
        return columns | dict.fromkeys(("dormant_fraction", "dead_fraction", "activation_entropy"), float("nan"))
    scores, dead = [], []
    for magnitude in evaluation.magnitudes.values():
        mean = magnitude.mean()
        scores.append(magnitude / mean if mean > 0 else torch.zeros_like(magnitude))
        dead.append(magnitude == 0)
    columns["dormant_fraction"] = float((torch.cat(scores) <= DORMANT_THRESHOLD).double().mean())
    columns["dead_fraction"] = float(torch.cat(dead).double().mean())
    last = list(evaluation.magnitudes.values())[-1]
    share = last / last.sum() if last.sum() > 0 else torch.zeros_like(last)
    columns["activation_entropy"] = float(torch.special.entr(share).sum())
    return columns


def _matrix_srank(matrix: Tensor) -> float:
    rank = int(matrix_stable_rank(matrix))
    return float("nan") if rank < 0 else float(rank)


def weight_columns(row: Tensor, init: Tensor, layout: Layout) -> dict[str, float]:
    """Metrics of one member's weights.

    Args:
        row: `[P]` parameters.
        init: `[P]` initial parameters.
        layout: of the arena.

    Returns:
        Column to value.
    """
    row, away = row.double(), row.double() - init.double()
    columns = {
        "weight_norm_l1": float(row.abs().sum() / layout.count),
        "weight_norm_l2": float(torch.linalg.vector_norm(row)),
        "init_distance_l1": float(away.abs().sum() / layout.count),
        "init_distance_l2": float(torch.linalg.vector_norm(away)),
    }
    for slot in layout.slots:
        if slot.is_weight:
            layer = slot.name.removesuffix(".weight")
            weight = row[slot.slice].reshape(slot.shape[0], -1)
            columns[f"weight_norm_l1_{layer}"] = float(weight.abs().mean())
            columns[f"weight_srank_{layer}"] = _matrix_srank(weight)
    return columns


def update_columns(sums: Accumulators, state: GroupState, at_start: Tensor, layout: Layout) -> dict[str, Tensor]:
    """Metrics accumulated over a task.

    Args:
        sums: over the task's updates.
        state: at its end.
        at_start: `[M, P]` parameters at its start.
        layout: of the arena.

    Returns:
        Column to `[M]` float64; NaN for members that made no update.
    """
    displacement = []
    for now, before in zip(state.params, at_start):  # one at a time: in float64 all would take twice the arena
        moved = now.double() - before.double()
        displacement.append(torch.stack([moved.abs().sum() / layout.count, torch.linalg.vector_norm(moved)]))
    displacement_l1, displacement_l2 = torch.stack(displacement, dim=1)
    columns = {
        **sums.means(),
        "displacement_l1": displacement_l1,
        "displacement_l2": displacement_l2,
    }
    return {name: value.cpu() for name, value in columns.items()}
