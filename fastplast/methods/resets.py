"""The one reset of hidden units, and the count of updates of Adam that belongs to what was reset.

A reset unit begins anew: its incoming weights and bias are drawn as at initialisation, its outgoing weights are zero,
the moments of both are zero. Adam divides its moments by 1 - beta^t; with the t of the member, weights whose moments
are zero would move by 3.2 times the step size in their first update and 6.6 times in their twelfth. So each unit knows
the update at which its incoming and its outgoing weights were born, and a weight counts from the later of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from fastplast_kernels.optimisers import Hyperparameters
from torch import Tensor

from fastplast.methods.units import HiddenLayer, hidden_layers, slots_of, to_inputs
from fastplast.networks import AnyNetwork, Network


@dataclass(frozen=True)
class Reset:
    """How units are reset, where published codes differ.

    Attributes:
        outgoing: whether outgoing weights become zero (else they stay).
        incoming_moments: whether the moments of incoming weights, biases and normalisation become zero.
        outgoing_moments: whether those of outgoing weights do.
        own_step: whether Adam's count of updates begins anew for weights whose moments do.
    """

    outgoing: bool = True
    incoming_moments: bool = True
    outgoing_moments: bool = True
    own_step: bool = True


USUAL = Reset()


class Choice(NamedTuple):
    """Units that are to be reset.

    Attributes:
        masks: of each hidden layer, `[m, O]` bool.
        activations: of each hidden layer, `[m, I]` mean inputs of the next: their part in its outputs goes to its
            biases. None to leave biases as they are.
    """

    masks: list[Tensor]
    activations: list[Tensor] | None = None


class Arenas(NamedTuple):
    """What a reset changes, of all members.

    Attributes:
        params: `[M, P]`.
        m: `[M, P]`.
        v: `[M, P]`.
        born: `[M, 2, U]` int64, updates done when the incoming, and the outgoing, weights of a unit were last reset.
    """

    params: Tensor
    m: Tensor
    v: Tensor
    born: Tensor


def reset_units(
    network: Network,
    arenas: Arenas,
    chosen: Choice,
    seeds: list[int],
    steps: list[int],
    how: Reset = USUAL,
    rows: list[int] | None = None,
) -> None:
    """Resets units in place, layer by layer from the first.

    A weight between two units that are both reset is fresh: the first layer's reset sets it to zero, the second's draws
    the whole row anew.

    Args:
        network: a built-in one.
        arenas: changed.
        chosen: units of `m` members.
        seeds: of these members.
        steps: updates done by each of them; with seed and unit they name the stream of a draw.
        how: what is reset.
        rows: where in the arenas the members are; None if they are the first.
    """
    params, *moments = (network.layout.views(arena) for arena in arenas[:3])
    device = arenas.params.device
    for number, hidden in enumerate(hidden_layers(network)):
        members, units = torch.nonzero(chosen.masks[number], as_tuple=True)
        if not len(members):
            continue
        pairs = list(zip(members.tolist(), units.tolist()))
        places = members if rows is None else torch.tensor(rows, device=device)[members]
        own = [network.unit_parameters(hidden.layer, seeds[m], steps[m], hidden.first + unit) for m, unit in pairs]
        _renew(hidden, params, (places, units), own)
        if how.outgoing:
            if chosen.activations is not None:
                _correct_biases(hidden, params, chosen.activations[number], pairs, places.tolist())
            _outgoing(hidden, params)[places, :, :, units] = 0.0
        for views in moments:
            for slot in slots_of(network, hidden.layer) if how.incoming_moments else ():
                views[slot.name][places, units] = 0.0
            if how.outgoing_moments:
                _outgoing(hidden, views)[places, :, :, units] = 0.0
        made = torch.tensor(steps, device=device)[members]
        for side, is_new in enumerate((how.incoming_moments, how.outgoing_moments)):
            if is_new and how.own_step:
                arenas.born[places, side, hidden.first + units] = made


def _renew(
    hidden: HiddenLayer, params: dict[str, Tensor], at: tuple[Tensor, Tensor], own: list[tuple[Tensor, float]]
) -> None:
    """Puts new weights and biases in place of those of units; normalisation begins anew."""
    layer, weight, bias = hidden.layer, params[hidden.weight], params[f"{hidden.layer.name}.bias"]
    weight[at] = torch.stack([weights for weights, _ in own]).reshape(-1, *layer.weight_shape[1:]).to(weight.device)
    bias[at] = torch.tensor([value for _, value in own], device=bias.device)
    if layer.norm:
        params[f"{layer.name}.norm_scale"][at], params[f"{layer.name}.norm_shift"][at] = 1.0, 0.0


def _correct_biases(
    hidden: HiddenLayer, params: dict[str, Tensor], means: Tensor, pairs: list[tuple[int, int]], rows: list[int]
) -> None:
    """What units added on average to the next layer's outputs goes to its biases."""
    outgoing, bias = _outgoing(hidden, params), params[f"{hidden.after.name}.bias"]
    for (member, unit), row in zip(pairs, rows):
        mean = means[member].reshape(hidden.wide, hidden.units, hidden.positions)[:, unit].flatten()
        if bool(mean.any()):
            own = outgoing[row, :, :, unit]
            sums = own.reshape(len(own), len(mean), -1).double().sum(2)
            bias[row] += (sums * mean).sum(1).float()


def _outgoing(hidden: HiddenLayer, views: dict[str, Tensor]) -> Tensor:
    """Of the next layer's weights, or of their moments: `[M, O, wide, units, positions, ...]`."""
    return views[hidden.next_weight].unflatten(2, (hidden.wide, hidden.units, hidden.positions))


def own_coefficients(
    network: AnyNetwork, born: Tensor, since: Tensor, steps: Tensor, hyper: Hyperparameters
) -> tuple[Tensor, Tensor]:
    """Adam's coefficients of each weight, its updates counted from its birth; formed in float64 and rounded once.

    Both are monotonous in the count, also rounded: the later birth of a weight's row and column has the larger rate and
    the smaller root.

    Args:
        network: a built-in one.
        born: `[m, 2, U]`, see ``Arenas``.
        since: `[m]` updates done when the count of the whole member began.
        steps: `[m]` number of this update, from 1.
        hyper: of the members.

    Returns:
        Learning rate over 1 - beta1^t, and root of 1 - beta2^t, `[m, P]` float32.
    """
    ages = steps[:, None, None] - torch.maximum(born, since[:, None, None])
    ages = torch.cat([ages.flatten(1), (steps - since)[:, None]], 1)
    rates = (hyper.learning_rate[:, None] / (1.0 - hyper.beta1[:, None] ** ages)).float()
    roots = (1.0 - hyper.beta2[:, None] ** ages).sqrt().float()
    return _of_weights(network, rates, torch.maximum), _of_weights(network, roots, torch.minimum)


def _of_weights(network: AnyNetwork, values: Tensor, later: Callable[..., Tensor]) -> Tensor:
    """Of each weight `[m, P]` from those of the units' two sides and of the member `[m, 2 U + 1]`."""
    row = values[:, -1:].repeat(1, network.layout.size)
    of_units, views = values[:, :-1].unflatten(1, (2, -1)), network.layout.views(row)
    for hidden in hidden_layers(network):
        incoming, outgoing = of_units[:, 0, hidden.numbers], to_inputs(hidden, of_units[:, 1, hidden.numbers])
        for slot in slots_of(network, hidden.layer):
            view = views[slot.name]
            later(view, incoming.reshape(*incoming.shape, *[1] * (view.ndim - 2)), out=view)
        view = views[hidden.next_weight]
        later(view, outgoing.reshape(len(row), 1, -1, *[1] * (view.ndim - 3)), out=view)
    return row
