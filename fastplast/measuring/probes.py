"""Probes: features, weights and updates of a member to numbers in float64, as ``definitions`` puts them in words."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fastplast.curvature import matrix_stable_rank
from fastplast.engines.base import Accumulators, GroupState
from fastplast.losses import LOSSES
from fastplast.machine.threads import one_thread_each
from fastplast.networks import AnyNetwork, ModuleNetwork
from fastplast.networks.layout import Layout
from fastplast.problems import Task

DORMANT_THRESHOLD = 0.1  # tau of ReDo (Sokar et al. 2023)


@dataclass(frozen=True)
class Evaluation:
    """One member on all examples of a task, float64.

    Attributes:
        loss: mean over examples.
        error: misclassified fraction; NaN where labels are numbers.
        logits: `[N, C]`.
        activations: name of hidden layer to what it gives, `[N, O]` or `[N, O, height, width]`.
        features: name of hidden layer to post-activation features `[N, F]`; a convolution's averaged over space.
        magnitudes: name to data-averaged absolute activation `[F]`.
        tail_inputs: `[N, I]`, what enters the last two layers.
    """

    loss: float
    error: float
    logits: Tensor
    activations: dict[str, Tensor]
    features: dict[str, Tensor]
    magnitudes: dict[str, Tensor]
    tail_inputs: Tensor


def member_inputs(task: Task, member: int) -> Tensor:
    """All inputs of one member, `[N, I]` float32: what training sees."""
    x = task.images[task.rows[member]].float() * task.scale + task.shift
    return x if task.pixels is None else x[:, task.pixels[member]]


@torch.no_grad()
def evaluate(
    network: AnyNetwork, row: Tensor, task: Task, member: int, running: dict[str, Tensor] | None = None
) -> Evaluation:
    """Runs one member over all examples of a task; its numbers do not depend on the other members.

    Dense layers run in float64. Convolutions run in float32, as in training: in float64 they take five times as long
    and change no metric beyond its sixth digit.

    Args:
        network: of the group.
        row: `[P]` float32 parameters of the member.
        task: whose examples.
        member: its position in the task's tables.
        running: of a module, its running statistics by name.

    Returns:
        What it did.
    """
    x, labels = member_inputs(task, member), task.labels[member]
    if isinstance(network, ModuleNetwork):
        network.train(False)
        logits, found = network.forward(row, x, torch.float64, running=running)
    else:
        logits, found = network.forward(row, x, torch.float64)
    loss = LOSSES[task.loss].mean(logits, labels)
    features, magnitudes = {}, {}
    for name, h in zip(network.feature_names, found):
        space = tuple(range(2, h.ndim))
        h = h.double()
        features[name] = h.mean(space) if space else h
        magnitudes[name] = h.abs().mean((0, *space))
    is_finite = bool(logits.isfinite().all())
    error = LOSSES[task.loss].error(logits, labels) if is_finite else torch.tensor(torch.nan)
    below = found[-2].flatten(1) if len(found) > 1 else x
    activations = dict(zip(network.feature_names, found))
    return Evaluation(float(loss), float(error), logits, activations, features, magnitudes, below.double())


def held_out_columns(
    network: AnyNetwork, row: Tensor, task: Task, member: int, running: dict[str, Tensor] | None = None
) -> dict[str, float]:
    """Metrics on a task's test examples.

    Args:
        network: of the group.
        row: `[P]` float32 parameters of the member.
        task: whose test examples.
        member: its position in the task's tables.
        running: of a module, its running statistics by name.

    Returns:
        Column to value; empty where a task has no test examples.
    """
    test = task.test
    if test is None:
        return {}
    found = evaluate(network, row, test, member, running)
    return {"test_loss": found.loss, "test_error": found.error}


def feature_columns(evaluation: Evaluation) -> dict[str, float]:
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

    def displacement(member: int) -> Tensor:  # of one at a time: in float64 all would take twice the arena
        moved = state.params[member].double() - at_start[member].double()
        return torch.stack([moved.abs().sum() / layout.count, torch.linalg.vector_norm(moved)])

    found = one_thread_each(displacement, len(at_start), at_start.device)
    displacement_l1, displacement_l2 = torch.stack(found, dim=1)
    columns = {
        **sums.means(),
        "displacement_l1": displacement_l1,
        "displacement_l2": displacement_l2,
    }
    return {name: value.cpu() for name, value in columns.items()}
