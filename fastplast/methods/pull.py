"""Regularisers as one rule: weights are pulled to a target.

Gradient ``2 strength_m c (w - q)``, penalty ``strength_m c sum (w - q)^2`` over every weight matrix, c = 1/d
(``reduction="mean"``) or 1 (``"sum"``). A method only says what q is: an anchor made from the initial weights, either
fixed in place or dealt out by the rank of each weight within its matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from fastplast_kernels.update import pull_gradient
from fastplast_kernels.wasserstein import target as ranked_target
from torch import Tensor

from fastplast.config import Member
from fastplast.methods.anchors import make_anchor
from fastplast.methods.registry import METHODS
from fastplast.networks.layout import Layout


@dataclass(frozen=True)
class Pull:
    """The targets of a group's members.

    Attributes:
        layout: of the arena.
        anchor: `[M, P]` float32.
        ranked: `[M]` bool, members whose anchor is dealt out by rank.
        strength: `[M]` float64; 0 for members without a pull.
        factor: `[P]` float32, c of the rule.
    """

    layout: Layout
    anchor: Tensor
    ranked: Tensor
    strength: Tensor
    factor: Tensor

    @property
    def active(self) -> bool:
        """Whether any member is pulled at all."""
        return bool((self.strength != 0).any())

    @cached_property
    def _ranked_rows(self) -> Tensor:
        """Found once: it has to be waited for."""
        return torch.nonzero(self.ranked).flatten()

    def rows(self, block: slice) -> Pull:
        """The rule for some members."""
        return Pull(self.layout, self.anchor[block], self.ranked[block], self.strength[block], self.factor)

    def target(self, params: Tensor) -> Tensor:
        """What each weight is pulled to now.

        Args:
            params: `[M, P]`.

        Returns:
            q `[M, P]`; on biases and padding of no meaning.
        """
        rows = self._ranked_rows
        if not len(rows):
            return self.anchor
        q = self.anchor.clone()
        for slot in self.layout.slots:
            if slot.is_weight:
                q[rows, slot.slice] = ranked_target(params[rows, slot.slice], self.anchor[rows, slot.slice])
        return q

    def gradient(self, params: Tensor) -> Tensor:
        """Gradient of the penalty, `[M, P]`."""
        return pull_gradient(params, self.target(params), self.strength, self.factor)

    def penalty(self, params: Tensor) -> Tensor:
        """The penalty, `[M]` float64."""
        sums = []
        for m in range(len(params)):  # one at a time: in float64 all would take twice the arena
            distance = params[m : m + 1] - self.rows(slice(m, m + 1)).target(params[m : m + 1])
            sums.append((distance.double().square() * self.factor).sum(1))
        return self.strength * torch.cat(sums)


def strength_of(member: Member) -> float:
    """The strength that a member is trained with: 0 where its method has no anchor to pull to."""
    return 0.0 if METHODS[member.method].anchor is None else float(member.strength)


def shown_strength(member: Member) -> float:
    """The strength that results say: that of the pull, or of a method that takes one without a pull."""
    return float(member.strength) if METHODS[member.method].takes_strength else strength_of(member)


def build_pull(members: tuple[Member, ...], strength: Tensor, init: Tensor, layout: Layout, reduction: str) -> Pull:
    """The pull-to-target rule of a group, whatever methods its members mix.

    Args:
        members: `M` of them.
        strength: `[M]` float64, see `strength_of`.
        init: `[M, P]` initial parameters.
        layout: of the arena.
        reduction: ``mean`` or ``sum``.

    Returns:
        The rule.

    Raises:
        ValueError: if the anchor of a method of the user's own cannot be one.
    """
    ranked = torch.zeros(len(members), dtype=torch.bool)
    anchor = init.new_zeros(1, 1).expand_as(init)  # takes no memory where nobody is pulled
    names = {member.method for member in members}
    for name, method in METHODS.items():
        if name not in names or method.anchor is None:
            continue
        rows = [i for i, member in enumerate(members) if member.method == name]
        if len(names) == 1:
            anchor = make_anchor(name, method, init, layout)
        else:
            anchor = anchor.contiguous()
            anchor[rows] = make_anchor(name, method, init[rows], layout)
        ranked[rows] = method.ranked
    ranked &= strength != 0
    device = init.device
    return Pull(layout, anchor, ranked.to(device), strength.to(device), layout.pull(reduction).to(device))
