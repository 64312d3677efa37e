"""Methods against plasticity loss."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.config import METHOD_NAMES, OWN_METHODS, Member
from fastplast.methods.l2 import l2
from fastplast.methods.none import none
from fastplast.methods.pull import Method, Pull
from fastplast.methods.regenerative import regenerative
from fastplast.methods.wasserstein import wasserstein
from fastplast.networks.layout import Layout

METHODS: dict[str, Method] = {
    "none": none,
    "l2": l2,
    "regenerative": regenerative,
    "wasserstein": wasserstein,
}


def register(name: str, method: Method) -> None:
    """Makes a method of one's own known to this process: to train with it, and to resume what was trained with it.

    Args:
        name: what ``Experiment(method=...)`` calls it.
        method: how its anchor is made.

    Raises:
        ValueError: if the name is one of the package's.

    Example:
        >>> halfway = Method(lambda init, layout: init / 2, False, "pulled to half the initial values", "this example")
        >>> register("halfway", halfway)  # doctest: +SKIP
    """
    if name in METHOD_NAMES:
        raise ValueError(f"name must be new: got {name!r}, which is one of fastplast's. Choose another name.")
    METHODS[name] = method
    if name not in OWN_METHODS:
        OWN_METHODS.append(name)


def strength_of(member: Member) -> float:
    """The strength that a member is trained with: 0 where its method has no anchor to pull to."""
    return 0.0 if METHODS[member.method].anchor is None else float(member.strength)


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
    """
    ranked = torch.zeros(len(members), dtype=torch.bool)
    anchor = init.new_zeros(1, 1).expand_as(init)  # takes no memory where nobody is pulled
    names = {member.method for member in members}
    for name, method in METHODS.items():
        if name not in names or method.anchor is None:
            continue
        rows = [i for i, member in enumerate(members) if member.method == name]
        if len(names) == 1:
            anchor = method.anchor(init, layout)
        else:
            anchor = anchor.contiguous()
            anchor[rows] = method.anchor(init[rows], layout)
        ranked[rows] = method.ranked
    ranked &= strength != 0
    device = init.device
    return Pull(layout, anchor, ranked.to(device), strength.to(device), layout.pull(reduction).to(device))


__all__ = ["METHODS", "Method", "Pull", "build_pull", "register", "strength_of"]
