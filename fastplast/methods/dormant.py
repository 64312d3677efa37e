"""Resets of units with a small score at a cadence: ReDo by activations, ReGraMa by gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.methods.method import Method, Seen, Users, Watch
from fastplast.methods.resets import Choice
from fastplast.methods.units import hidden_layers, incoming_mean, unit_mean


def _begin(users: Users, init: Tensor) -> dict[str, Tensor]:
    return {
        f"sum.{hidden.layer.name}": torch.zeros(len(init), hidden.units, dtype=torch.float64)
        for hidden in hidden_layers(users.network)
    }


def _left(seen: Seen) -> Tensor:
    """Updates until the next reset, `[m]`."""
    return (-seen.number) % seen.users.options["every"]


def _add(seen: Seen, magnitudes: list[Tensor]) -> None:
    """Adds up the magnitudes of units in the last minibatches before a reset."""
    listens = _left(seen) < seen.users.options["batches"]
    for hidden, magnitude in zip(hidden_layers(seen.users.network), magnitudes):
        seen.state[f"sum.{hidden.layer.name}"] += torch.where(listens[:, None], magnitude, 0.0)


def _observe_activations(seen: Seen) -> None:
    pairs = zip(hidden_layers(seen.users.network), seen.features)
    _add(seen, [unit_mean(hidden, features.abs()) for hidden, features in pairs])


def _observe_gradients(seen: Seen) -> None:
    views = seen.users.layout.views(seen.grads)
    _add(seen, [incoming_mean(hidden, views) for hidden in hidden_layers(seen.users.network)])


def _choose(seen: Seen) -> Choice:
    """Units whose mean magnitude over the last minibatches is at most the threshold times that of their layer."""
    options, masks, is_due = seen.users.options, [], (_left(seen) == 0)[:, None]
    for hidden in hidden_layers(seen.users.network):
        total = seen.state[f"sum.{hidden.layer.name}"]
        mean = total / torch.minimum(options["batches"], options["every"])[:, None]
        score = mean / (mean.mean(1, keepdim=True) + 1e-9)
        masks.append((score <= options["threshold"][:, None]) & is_due)
        total.masked_fill_(is_due, 0.0)
    return Choice(masks)


def _settings(users: Users) -> list[Tensor]:
    """For the kernels."""
    return [users.options["every"], users.options["batches"]]


redo = Method(
    is_neutral=lambda options: options["threshold"] < 0,
    begin=_begin,
    observe=_observe_activations,
    choose_units=_choose,
    watch=Watch("activation", _settings),
    needs_features=True,
    needs_layers=True,
)
regrama = Method(
    is_neutral=lambda options: options["threshold"] < 0,
    begin=_begin,
    observe=_observe_gradients,
    choose_units=_choose,
    watch=Watch("gradient", _settings),
    needs_layers=True,
)
