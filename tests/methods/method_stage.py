"""A member without data, whose hooks are given gradients and features by hand."""

import math

import torch

from fastplast.config import Experiment, Member
from fastplast.engines import build_group, new_state
from fastplast.engines.hooks import Batch, Hooks
from fastplast.networks import build_network
from fastplast.problems import Task


class Stage:
    """One member, whose steps move nothing but what its method does."""

    def __init__(self, method: str, strength: float = 0.0, shape=(1, 2, 2), fields=None, **options):
        e = Experiment(**{"network": "mlp", "widths": (4, 3)} | (fields or {})).resolved()
        own = Member(0, 0.1, method, strength, options={f"{method}_{name}": value for name, value in options.items()})
        self.network = build_network(e, shape, 2)
        self.group = build_group(e, self.network, (own,))
        self.state, self.hooks = new_state(self.group), Hooks(self.group, "cpu")
        zeros, size = torch.zeros(1, 8, dtype=torch.int64), math.prod(shape)
        self.task = Task(1, torch.rand(1, size), zeros, zeros, None, torch.ones(size), torch.zeros(size), shape, 2)

    def views(self, arena=None) -> dict[str, torch.Tensor]:
        """Parameters of the member, or their like, by name, `[1, ...]`."""
        return self.network.layout.views(self.state.params if arena is None else arena)

    def zeros(self) -> torch.Tensor:
        return torch.zeros_like(self.state.params)

    def update(self, features=(), grads=None) -> list[int]:
        """What follows a step; resets of each layer so far."""
        self.state.steps += 1
        batch = Batch(self.task, self.zeros() if grads is None else grads, list(features))
        self.hooks.after_update(self.state, batch)
        return self.state.kept["resets"][0].tolist() if "resets" in self.state.kept else []

    def added(self, grads=None) -> torch.Tensor:
        """What the method adds to a gradient, `[1, P]`."""
        grads = self.zeros() if grads is None else grads
        return self.hooks.with_penalties(self.state, Batch(self.task, grads, [])).grads - grads

    def step(self, grads) -> torch.Tensor:
        """New parameters by the method's own rule, `[P]`."""
        steps = self.hooks.own_steps(self.state, Batch(self.task, grads, []))
        assert steps is not None
        return steps.params[0]

    def reset_units(self) -> list[int]:
        """Numbers of the units that have been reset."""
        return torch.nonzero(self.state.kept["born"][0, 0]).flatten().tolist()
