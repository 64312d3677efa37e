"""What kernels watch about the hidden units of members while they train, and what they are told of earlier resets.

A method of a member decides now and then which of its units are reset. What it decides by, the kernels keep up to date
after each update, in the method's own tensors, for one of four kinds of methods. With h the activations of a unit on
the minibatch, before pooling and dropout:

``utility``
    Of each unit its age w in updates and its ``utility`` u, of each input of the next layer its ``mean`` f, of each
    layer the units that are ``owed``: those to be reset. w = w + 1; f = d f + (1 - d) mean h, f' = f / (1 - d^w); u =
    d u + (1 - d) y, where y is the product of those factors that are set: mean |outgoing weights| after the update;
    mean |h| (1) or mean |h - f'| (2); 1 / mean |incoming weights|. Of the first two it is the mean over all inputs
    that are outputs of the unit. Activations are as the next layer receives them, without dropout. What is owed grows
    by the rate times the number of units, or of those older than the maturity, if one is. Due when one is owed.
``activation``
    ``sum`` of mean |h| over the last ``batches`` of ``every`` updates. Due at every such update.
``silence``
    ``silence``, updates since h was last positive; ``past`` counts silences of each length that ended. Due when one
    reaches its ``threshold``.
``gradient``
    As ``activation``, of mean |g|, g the gradient of the loss with respect to the incoming weights.

A member that is due stops. Its method then decides, and resets units, and the next call goes on.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from fastplast_kernels.train_step.arguments import check
from fastplast_kernels.train_step.layers import ConvLayer, DenseLayer, Layer
from torch import Tensor


class Kind(NamedTuple):
    """What there is to a kind of methods.

    Attributes:
        parts: tensors of a hidden layer, in order, with their dtypes; each `[m, O]` but ``mean`` `[m, I]` of the next
            layer's inputs, ``owed`` `[m]` and ``past`` `[m, O, n]`.
        settings: numbers of each member, in order.
    """

    parts: dict[str, torch.dtype]
    settings: tuple[str, ...]


_SUM = Kind({"sum": torch.float64}, ("every", "batches"))
KINDS: dict[str, Kind] = {
    "utility": Kind(
        {"age": torch.int64, "utility": torch.float64, "mean": torch.float64, "owed": torch.float64},
        ("decay", "maturity", "rate", "of all units", "by outgoing weights", "by activations", "by incoming weights"),
    ),
    "activation": _SUM,
    "silence": Kind({"silence": torch.int64, "threshold": torch.int64, "past": torch.int32}, ("lengths",)),
    "gradient": _SUM,
}
SETTINGS = max(len(kind.settings) for kind in KINDS.values())
PARTS = max(len(kind.parts) for kind in KINDS.values())


class Watched(NamedTuple):
    """Members that are watched in the same way.

    Attributes:
        kind: one of ``KINDS``.
        members: `[m]` int64, positions.
        settings: `[m, S]` float64, those of the kind.
        parts: of each hidden layer, the tensors of the kind in order; changed in place.
    """

    kind: str
    members: Tensor
    settings: Tensor
    parts: Sequence[Sequence[Tensor]]


class Units(NamedTuple):
    """What is known of the units of all members.

    Attributes:
        watched: who is watched, each member at most once.
        born: `[M, 2, U]` int64, updates made when the incoming, and the outgoing, weights of a unit were last reset;
            units are counted through all hidden layers. For ``adam``, a weight counts updates from the later of the
            births of its row and its column.
    """

    watched: Sequence[Watched]
    born: Tensor


def check_units(units: Units, layers: Sequence[Layer], members: int) -> None:
    """Checks tensors that kernels read through their addresses.

    Args:
        units: to check.
        layers: input to output.
        members: M.

    Raises:
        ValueError: if kinds, or shapes, do not fit.
    """
    check("born", units.born, (members, 2, sum(layer.outputs for layer in layers[:-1])), torch.int64)
    for kind, rows, settings, parts in units.watched:
        if kind not in KINDS:
            raise ValueError(f"kind of what is watched is unknown: got {kind!r}. Choose one of {', '.join(KINDS)}.")
        count = len(rows)
        check("members", rows, (count,), torch.int64)
        check("settings", settings, (count, len(KINDS[kind].settings)), torch.float64)
        for (layer, after), tensors in zip(pairwise(layers), parts, strict=True):
            flattened = isinstance(layer, ConvLayer) and isinstance(after, DenseLayer)
            inputs = layer.shape_above[0] * (layer.pixels if flattened else 1)
            shapes = {"mean": (count, inputs), "owed": (count,)}
            for (name, dtype), tensor in zip(KINDS[kind].parts.items(), tensors, strict=True):
                shape = (count, layer.outputs, *tensor.shape[2:]) if name == "past" else (count, layer.outputs)
                check(name, tensor, shapes.get(name, shape), dtype)
