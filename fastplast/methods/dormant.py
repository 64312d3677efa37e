"""Resets of units with a small score at a cadence: ReDo by activations, ReGraMa by gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.methods.method import Method, Seen, Users
from fastplast.methods.resets import Choice
from fastplast.methods.units import hidden_layers, incoming_mean, unit_mean


def _begin(users: Users, init: Tensor) -> dict[str, Tensor]:
    return {
        f"sum.{hidden.layer.name}": torch.zeros(len(init), hidden.units, dtype=torch.float64)
        for hidden in hidden_layers(users.network)
    }


def _choose(seen: Seen, magnitudes: list[Tensor]) -> Choice | None:
    """Units whose mean magnitude over the last minibatches is at most the threshold times that of their layer."""
    options = seen.users.options
    left = (-seen.number) % options["every"]  # updates until the next reset
    is_due, listens = left == 0, left < options["batches"]
    masks = []
    for hidden, magnitude in zip(hidden_layers(seen.users.network), magnitudes):
        total = seen.state[f"sum.{hidden.layer.name}"]
        total += torch.where(listens[:, None], magnitude, 0.0)
        mean = total / torch.minimum(options["batches"], options["every"])[:, None]
        score = mean / (mean.mean(1, keepdim=True) + 1e-9)
        masks.append((score <= options["threshold"][:, None]) & is_due[:, None])
        total.masked_fill_(is_due[:, None], 0.0)
    return Choice(masks)


def _choose_by_activation(seen: Seen) -> Choice | None:
    network = seen.users.network
    pairs = zip(hidden_layers(network), seen.features)
    return _choose(seen, [unit_mean(hidden, features.abs()) for hidden, features in pairs])


def _choose_by_gradient(seen: Seen) -> Choice | None:
    views = seen.users.layout.views(seen.grads)
    layers = hidden_layers(seen.users.network)
    return _choose(seen, [incoming_mean(hidden, views) for hidden in layers])


redo = Method(
    summary="at a cadence, units with small activations are reset (recycling dormant neurons)",
    reference="Sokar et al. 2023, ICML, arXiv 2302.12902",
    is_neutral=lambda options: options["threshold"] < 0,
    begin=_begin,
    choose_units=_choose_by_activation,
    needs_features=True,
    needs_layers=True,
)
regrama = Method(
    summary="at a cadence, units with small gradients are reset",
    reference="Liu et al. 2025, NeurIPS, arXiv 2505.24061",
    is_neutral=lambda options: options["threshold"] < 0,
    begin=_begin,
    choose_units=_choose_by_gradient,
    needs_layers=True,
)
