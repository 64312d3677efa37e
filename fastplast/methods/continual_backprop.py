"""Continual backprop: at every update the least useful of the mature units are reset, at a small rate.

Dohare et al. 2024. Utilities are those of its published code, with their bias corrected; the activations are those of
the batch before the update, the weights those after it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.methods.method import Method, Seen, Users, Watch
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


# Of what a utility is a product: outgoing weights, activations (1) or their distances from their mean (2), one over
# incoming weights.
_FACTORS = {
    "adaptable_contribution": (1, 2, 1),
    "zero_contribution": (1, 2, 0),
    "contribution": (1, 1, 0),
    "weight": (1, 0, 0),
    "adaptation": (0, 0, 1),
    "feature_by_input": (0, 2, 1),
}


def _factors(users: Users) -> Tensor:
    """Which factors the utility of each member has, `[3, m]`."""
    kinds = torch.tensor([_FACTORS[word] for word in users.choices["utility"]], device=users.strength.device)
    return kinds[users.options["utility"]].T


def _observe(seen: Seen) -> None:
    options = seen.users.options
    decay, factors = options["decay"][:, None], _factors(seen.users)[:, :, None]
    views = seen.users.layout.views(seen.params)
    for hidden, features in zip(hidden_layers(seen.users.network), seen.features):
        h = received(hidden, features).double()
        age, utility, mean, owed = _kept(seen, hidden)
        age += 1
        mean.mul_(decay).add_((1.0 - decay) * h.mean((1, 3)))
        centre = (mean / to_inputs(hidden, 1.0 - decay**age))[:, None, :, None]
        distance, magnitude = (h - centre).abs().mean((1, 3)), h.abs().mean((1, 3))
        by_inputs = torch.where(factors[0] > 0, outgoing_mean(hidden, views), 1.0)
        by_inputs = by_inputs * torch.where(factors[1] == 2, distance, torch.where(factors[1] == 1, magnitude, 1.0))
        new = from_inputs(hidden, by_inputs) / torch.where(factors[2] > 0, incoming_mean(hidden, views), 1.0)
        utility.mul_(decay).add_((1.0 - decay) * new)
        eligible = age > options["maturity"][:, None]
        count = torch.where(seen.users.chosen("share_of", "all"), hidden.units, eligible.sum(1))
        owed += torch.where(eligible.any(1), options["rate"] * count, 0.0)


def _choose(seen: Seen) -> Choice:
    masks, means = [], []
    decay, corrects = seen.users.options["decay"][:, None], seen.users.chosen("correct_bias", "yes")[:, None]
    for hidden in hidden_layers(seen.users.network):
        age, utility, mean, owed = _kept(seen, hidden)
        number = (owed + 1e-9).floor()  # a thousand times 0.001 is a little less than 1
        owed -= number
        correction = 1.0 - decay**age
        mask = least(utility / correction, age > seen.users.options["maturity"][:, None], number)
        means.append(torch.where(corrects, mean / to_inputs(hidden, correction), 0.0))
        masks.append(mask)
        utility.masked_fill_(mask, 0.0)
        age.masked_fill_(mask, 0)
        mean.masked_fill_(to_inputs(hidden, mask), 0.0)
    return Choice(masks, means if bool(corrects.any()) else None)


def _kept(seen: Seen, hidden: HiddenLayer) -> tuple[Tensor, ...]:
    """Age, utility, mean and what is owed, of a layer."""
    return tuple(seen.state[f"{part}.{hidden.layer.name}"] for part in ("age", "utility", "mean", "owed"))


def _settings(users: Users) -> list[Tensor]:
    """For the kernels."""
    options = users.options
    return [options["decay"], options["maturity"], options["rate"], users.chosen("share_of", "all"), *_factors(users)]


cbp = Method(
    is_neutral=lambda options: options["rate"] == 0,
    begin=_begin,
    observe=_observe,
    choose_units=_choose,
    watch=Watch("utility", _settings),
    needs_features=True,
    needs_layers=True,
)
