"""Which members of a group use which method with hooks, and with what hyperparameters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from fastplast_kernels.optimisers import Hyperparameters
from torch import Tensor

from fastplast.config import METHOD_OPTIONS, ConfigError, Member
from fastplast.engines.base import Group
from fastplast.methods import METHODS, Method, Users
from fastplast.networks import ModuleNetwork


class Use(NamedTuple):
    """A method and who uses it.

    Attributes:
        name: of the method.
        method: itself.
        rows: positions of the members in the group; None where all use it.
        place: likewise, a slice where they are neighbours.
        users: the members.
        acts: `[m]` bool, for whom hooks of updates are to be called: who is not idle in them.
        positions: of the members among all that use the method; None for all of these.
    """

    name: str
    method: Method
    rows: Tensor | None
    place: Tensor | slice | None
    users: Users
    acts: Tensor
    positions: Tensor | slice | None = None

    @property
    def acts_on_updates(self) -> bool:
        """Whether hooks of updates are to be called."""
        return bool(self.acts.any())

    @property
    def in_kernels(self) -> Tensor:
        """`[m]` bool, for whom the kernels of the cpu engine do the hook of updates."""
        hook = self.method.kernel_hook
        return torch.zeros_like(self.acts) if hook is None else self.acts & hook.serves(self.users)

    def take(self, tensor: Tensor) -> Tensor:
        """The rows of the members, `[m, ...]` of `[M, ...]`; a view where they are neighbours."""
        return tensor if self.place is None else tensor[self.place]

    def some(self, wanted: Tensor) -> Use:
        """The same method of some of its users.

        Args:
            wanted: `[m]` bool.

        Returns:
            The use; itself if all are wanted.
        """
        if bool(wanted.all()):
            return self
        positions, users = torch.nonzero(wanted).flatten(), self.users
        own = replace(
            users,
            seeds=[users.seeds[i] for i in positions.tolist()],
            strength=users.strength[positions],
            options={name: value[positions] for name, value in users.options.items()},
            hyper=Hyperparameters(*(value[positions] for value in users.hyper)),
        )
        rows = positions if self.rows is None else self.rows[positions]
        return self._replace(
            rows=rows, place=_place_of(rows), users=own, acts=self.acts[positions], positions=_place_of(positions)
        )


def _place_of(rows: Tensor) -> Tensor | slice:
    """Ascending positions as an index: a slice where they are neighbours, which copies nothing."""
    first, last = int(rows[0]), int(rows[-1])
    return slice(first, last + 1) if last - first + 1 == len(rows) else rows


def uses_of(group: Group, device: torch.device) -> list[Use]:
    """Every method of a group that has hooks, and its users; members to whom it does nothing are none.

    Args:
        group: whose members.
        device: where its state is.

    Returns:
        The uses, in the order of the members.
    """
    return [_use(name, group, device) for name in dict.fromkeys(m.method for m in group.members if not is_neutral(m))]


def is_neutral(member: Member) -> bool:
    """Whether a member's method does nothing but, at most, pull."""
    method = METHODS[member.method]
    if method.takes_strength and member.strength == 0:
        return True
    has_hooks = method.acts_on_updates or method.at_task is not None
    return not has_hooks or method.is_neutral(_options_of(member))


def _options_of(member: Member) -> dict[str, Any]:
    """The hyperparameters of a member's method, without the method's name."""
    start = len(member.method) + 1
    return {name[start:]: value for name, value in dict(member.options).items()}


def _use(name: str, group: Group, device: torch.device) -> Use:
    method = METHODS[name]
    if method.needs_layers and isinstance(group.network, ModuleNetwork):
        raise ConfigError(
            f"--method {name} needs a built-in network, whose units are known: got {group.network.name}. "
            "Use another method.",
            "method",
        )
    rows = [i for i, member in enumerate(group.members) if member.method == name and not is_neutral(member)]
    members, choices = [group.members[i] for i in rows], {}
    own, options = [_options_of(member) for member in members], {}
    for option, declared in METHOD_OPTIONS.get(name, {}).items():
        values = [each[option] for each in own]
        if declared.choices:
            choices[option] = declared.choices
            options[option] = torch.tensor([declared.choices.index(word) for word in values], device=device)
        else:
            options[option] = torch.tensor(values, dtype=torch.float64, device=device)
    index, strengths = torch.tensor(rows), [member.strength for member in members]
    users = Users(
        network=group.network,
        seeds=[member.seed for member in members],
        strength=torch.tensor(strengths, dtype=torch.float64, device=device),
        options=options,
        choices=choices,
        hyper=Hyperparameters(*(value[index] for value in group.hyper)).to(device),
        batch_size=group.batch_size,
    )
    acts = torch.tensor([method.acts_on_updates and not method.is_idle_in_updates(each) for each in own], device=device)
    some = None if len(rows) == len(group.members) else index.to(device)
    return Use(name, method, some, None if some is None else _place_of(some), users, acts)
