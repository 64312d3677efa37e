"""What kernels do to members in each update, in place of a hook in Python.

With w the parameters, g the gradient of the loss, and x standard normal numbers, an action is one of these kinds. After
the update:

``clamp``
    w = min(max(w, -b), b), with b of each layer.
``average``
    slow = d slow + (1 - d) w; at every n-th update of ``updates``, w = slow.
``shrink``
    w = k w + f x, where x are the initial parameters of those who do not draw.
``rescale``
    At every n-th update each matrix of weights is multiplied by b / its Frobenius norm, with b of each layer. It is
    left alone where b is negative, or the norm 0.

Before the optimiser:

``noise``
    g = g + s d^t x, times the Euclidean length of g of each tensor if it is relative; t are the ``updates`` before.

In place of the optimiser, moments stay as they are:

``protect``
    u = d u - (1 - d) g w is the ``utility``, u' = u / (1 - d^t), t the ``updates`` with this one. G = sigmoid(u' /
    |max u'|), or of |max u| if it is raw, over all parameters; or, if it is local, u' is divided by its length in the
    row of w. w = (1 - r c) w - r (g (1 - G) + s x (1 - G)), with learning rate r and weight decay c; without the first
    1 - G unless it is of all.

Numbers of layers are those of weights, biases, scale and shift alike, but for ``rescale``. A member whose parameters an
action after the update makes infinite, or no number, is frozen with those before the action, after the update.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from fastplast_kernels.train_step.arguments import check
from torch import Tensor


class Kind(NamedTuple):
    """What there is to a kind of actions.

    Attributes:
        settings: numbers of each member, in order.
        parts: tensors that are kept and changed, in order, with their dtypes; each `[m]` but ``slow`` and ``utility``
            `[m, P]`.
        copies: floats that a thread needs for each parameter of a member.
    """

    settings: tuple[str, ...]
    parts: dict[str, torch.dtype]
    copies: int


KINDS: dict[str, Kind] = {
    "clamp": Kind((), {}, 0),
    "average": Kind(("decay", "every"), {"slow": torch.float32, "updates": torch.int64}, 2),
    "shrink": Kind(("keep", "factor"), {}, 1),
    "rescale": Kind(("every",), {}, 0),
    "noise": Kind(("size", "decay", "relative"), {"updates": torch.int64}, 1),
    "protect": Kind(("decay", "size", "of all", "local", "raw"), {"utility": torch.float32, "updates": torch.int64}, 3),
}
SETTINGS = max(len(kind.settings) for kind in KINDS.values())
PARTS = max(len(kind.parts) for kind in KINDS.values())
OF_ROWS = ("slow", "utility")  # parts that are as large as a member


class Acted(NamedTuple):
    """Members to whom the same is done.

    Attributes:
        kind: one of ``KINDS``.
        members: `[n]` int64, positions.
        rows: `[n]` int64, their rows of the parts.
        settings: `[n, S]` float64, those of the kind.
        of_layers: `[n, L]` float64, numbers of the layers.
        draws: `[n]` bool, who needs normal numbers.
        parts: tensors of the kind in order; changed in place.
    """

    kind: str
    members: Tensor
    rows: Tensor
    settings: Tensor
    of_layers: Tensor
    draws: Tensor
    parts: Sequence[Tensor]


class Actions(NamedTuple):
    """What is done to the parameters of all members.

    Attributes:
        acted: to whom what is done, to each member at most one thing.
        init: `[M, P]` float32, initial parameters.
        keys: `[M, S, 2]` int64, of the normal numbers of each update of the order: low and high 64 bits of a key of
            Philox4x64-10; `[M, 0, 2]` where nobody draws.
    """

    acted: Sequence[Acted]
    init: Tensor
    keys: Tensor

    @property
    def draws(self) -> bool:
        """Whether normal numbers are drawn."""
        return self.keys.shape[1] > 0

    @property
    def copies(self) -> int:
        """Floats that a thread needs for each parameter of a member."""
        return max((KINDS[kind].copies for kind, *_ in self.acted), default=0)


def check_actions(actions: Actions, layers: int, shape: tuple[int, int], updates: int) -> None:
    """Checks tensors that kernels read through their addresses.

    Args:
        actions: to check.
        layers: L.
        shape: M and P.
        updates: S, of the order.

    Raises:
        ValueError: if kinds, shapes or rows do not fit.
    """
    check("init", actions.init, shape, torch.float32)
    check("keys", actions.keys, (shape[0], updates if actions.draws else 0, 2), torch.int64)
    for kind, members, rows, settings, of_layers, draws, parts in actions.acted:
        if kind not in KINDS:
            raise ValueError(f"kind of action is unknown: got {kind!r}. Choose one of {', '.join(KINDS)}.")
        count = len(members)
        for name, tensor in (("members", members), ("rows", rows)):
            check(name, tensor, (count,), torch.int64)
        check("settings", settings, (count, len(KINDS[kind].settings)), torch.float64)
        check("of_layers", of_layers, (count, layers), torch.float64)
        check("draws", draws, (count,), torch.bool)
        for (name, dtype), part in zip(KINDS[kind].parts.items(), parts, strict=True):
            of_all = len(part)
            check(name, part, (of_all, shape[1]) if name in OF_ROWS else (of_all,), dtype)
            if count and not 0 <= int(rows.min()) <= int(rows.max()) < of_all:
                got = f"{int(rows.min())}..{int(rows.max())}"
                raise ValueError(f"rows must lie in 0..{of_all - 1}: got {got}. Pass those of {name}.")
