"""Continual backprop: at every update the least useful of the mature units are reset, at a small rate.

Dohare et al. 2024. Utilities are those of its published code, with their bias corrected; the activations are those of
the batch before the update, the weights those after it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.methods.method import Method, Seen, Users
from fastplast.methods.resets import Choice
from fastplast.methods.units import (
    HiddenLayer,
    from_inputs,
    hidden_layers,
    incoming_mean,
    least,
    outgoing_mean,
    received,
    to_inputs,
)


def _begin(users: Users, init: Tensor) -> dict[str, Tensor]:
    """Age, utility and mean activation of units, and the units that a layer owes."""
    kept = {}
    for hidden in hidden_layers(users.network):
        name, count, inputs = hidden.layer.name, len(init), hidden.wide * hidden.units * hidden.positions
        kept |= {
            f"age.{name}": torch.zeros(count, hidden.units, dtype=torch.int64),
            f"utility.{name}": torch.zeros(count, hidden.units, dtype=torch.float64),
            f"mean.{name}": torch.zeros(count, inputs, dtype=torch.float64),
            f"owed.{name}": torch.zeros(count, dtype=torch.float64),
        }
    return kept


def _choose(seen: Seen) -> Choice:
    network = seen.users.network
    masks, means = [], []
    for hidden, features in zip(hidden_layers(network), seen.features):
        mask, mean = _choose_in_layer(seen, hidden, received(hidden, features).double())
        masks.append(mask)
        means.append(torch.where(seen.users.chosen("correct_bias", "yes")[:, None], mean, 0.0))
    return Choice(masks, means)


def _choose_in_layer(seen: Seen, hidden: HiddenLayer, h: Tensor) -> tuple[Tensor, Tensor]:
    """Units to reset, and the corrected mean activations of the next layer's inputs."""
    options, name = seen.users.options, hidden.layer.name
    age, utility, mean, owed = (seen.state[f"{part}.{name}"] for part in ("age", "utility", "mean", "owed"))
    decay = options["decay"][:, None]
    age += 1
    mean.mul_(decay).add_((1.0 - decay) * h.mean((1, 3)))
    corrected = mean / to_inputs(hidden, 1.0 - decay**age)
    utility.mul_(decay).add_((1.0 - decay) * _new_utility(seen, hidden, h, corrected))
    eligible = age > options["maturity"][:, None]
    count = torch.where(seen.users.chosen("share_of", "all"), hidden.units, eligible.sum(1))
    owed += torch.where(eligible.any(1), options["rate"] * count, 0.0)
    number = (owed + 1e-9).floor()  # a thousand times 0.001 is a little less than 1
    owed -= number
    mask = least(utility / (1.0 - decay**age), eligible, number)
    utility.masked_fill_(mask, 0.0)
    age.masked_fill_(mask, 0)
    mean.masked_fill_(to_inputs(hidden, mask), 0.0)
    return mask, corrected


def _new_utility(seen: Seen, hidden: HiddenLayer, h: Tensor, mean: Tensor) -> Tensor:
    """Utilities on this batch, `[m, O]`, each member's of its own kind."""
    views = seen.users.layout.views(seen.params)
    centred, magnitude = (h - mean[:, None, :, None]).abs().mean((1, 3)), h.abs().mean((1, 3))
    incoming, outgoing = incoming_mean(hidden, views), outgoing_mean(hidden, views)
    kinds = {
        "adaptable_contribution": from_inputs(hidden, outgoing * centred) / incoming,
        "zero_contribution": from_inputs(hidden, outgoing * centred),
        "contribution": from_inputs(hidden, outgoing * magnitude),
        "weight": from_inputs(hidden, outgoing),
        "adaptation": 1.0 / incoming,
        "feature_by_input": from_inputs(hidden, centred) / incoming,
    }
    found = torch.zeros_like(incoming)
    for kind, value in kinds.items():
        found = torch.where(seen.users.chosen("utility", kind)[:, None], value, found)
    return found


cbp = Method(
    summary="at a small rate, the least useful of the mature units are reset (continual backprop)",
    reference="Dohare et al. 2024, Nature 632, arXiv 2306.13812",
    is_neutral=lambda options: options["rate"] == 0,
    begin=_begin,
    choose_units=_choose,
    needs_features=True,
    needs_layers=True,
)
