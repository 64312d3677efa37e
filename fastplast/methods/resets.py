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
) -> None:
    """Resets units in place, layer by layer from the first.

    A weight between two units that are both reset is fresh: the first layer's reset sets it to zero, the second's draws
    the whole row anew.

    Args:
        network: a built-in one.
        arenas: changed.
        chosen: units of all members.
        seeds: of the members.
        steps: updates done by each member; with seed and unit they name the stream of a draw.
        how: what is reset.
    """
    for number, hidden in enumerate(hidden_layers(network)):
        for member, unit in torch.nonzero(chosen.masks[number]).tolist():
            mean = None if chosen.activations is None else chosen.activations[number][member]
            _reset(network, Arenas(*(arena[member] for arena in arenas)), hidden, unit, seeds[member], steps[member],
                   how, mean)  # fmt: skip


def _reset(
    network: Network, own: Arenas, hidden: HiddenLayer, unit: int, seed: int, step: int, how: Reset, mean: Tensor | None
) -> None:
    """Resets a unit of a member, whose rows the arenas are."""
    layout, layer, number = network.layout, hidden.layer, hidden.first + unit
    params, m, v = (layout.views(arena) for arena in own[:3])
    chosen = torch.zeros(1, hidden.units, dtype=torch.bool, device=own.params.device)
    chosen[0, unit] = True
    columns = to_inputs(hidden, chosen)[0]
    weights, bias = network.unit_parameters(layer, seed, step, number)
    params[hidden.weight][unit] = weights.reshape(layer.weight_shape[1:]).to(own.params.device)
    params[f"{layer.name}.bias"][unit] = bias
    if layer.norm:
        params[f"{layer.name}.norm_scale"][unit], params[f"{layer.name}.norm_shift"][unit] = 1.0, 0.0
    if how.outgoing:
        outgoing = params[hidden.next_weight][:, columns]
        if mean is not None:
            sums = outgoing.reshape(*outgoing.shape[:2], -1).double().sum(2)
            params[f"{hidden.after.name}.bias"] += (sums * mean[columns]).sum(1).float()
        params[hidden.next_weight][:, columns] = 0.0
    for moments in (m, v):
        for slot in slots_of(network, layer) if how.incoming_moments else ():
            moments[slot.name][unit] = 0.0
        if how.outgoing_moments:
            moments[hidden.next_weight][:, columns] = 0.0
    for side, is_new in enumerate((how.incoming_moments, how.outgoing_moments)):
        if is_new and how.own_step:
            own.born[side, number] = step


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
