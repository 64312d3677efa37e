"""Shrink and perturb: every parameter loses a share of itself, and something is added."""

from __future__ import annotations

import torch
from torch import Tensor

from fastplast.methods.draws import fresh, normal
from fastplast.methods.method import KernelHook, Method, Seen, Users


def _changed(seen: Seen, when: str) -> Tensor:
    """`(1 - shrink) w + perturb x` of the members that do it now."""
    users, now = seen.users, seen.users.chosen("when", when)
    added = normal(users, seen.number.tolist(), now & users.chosen("add", "gaussian"))
    added = added + fresh(seen, now & users.chosen("add", "fresh"))
    added = torch.where(users.chosen("add", "initial")[:, None], seen.init, added)
    new = (1.0 - users.options["shrink"]).float()[:, None] * seen.params + users.column("perturb") * added
    return torch.where(now[:, None], new, seen.params)


def _settings(users: Users) -> list[Tensor]:
    """For the kernels."""
    return [1.0 - users.options["shrink"], users.options["perturb"]]


shrink_perturb = Method(
    is_neutral=lambda options: options["shrink"] == 0 and options["perturb"] == 0,
    is_idle_in_updates=lambda options: options["when"] == "task",
    after_update=KernelHook(
        lambda seen: _changed(seen, "update"),
        "shrink",
        _settings,
        draws=lambda users: users.chosen("add", "gaussian"),
        serves=lambda users: ~users.chosen("add", "fresh"),
    ),
    reads_params_only=True,
    at_task=lambda seen: _changed(seen, "task"),
)
