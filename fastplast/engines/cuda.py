"""The ``cuda`` engine: each update a few Triton launches, each call of `run` replays of a CUDA graph of them."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fastplast.engines.base import Accumulators, Engine, Group, GroupState, dropout_keys, pull_of
from fastplast.engines.hooks import Hooks
from fastplast.engines.kernel_layers import kernel_layers, without_kernels
from fastplast.machine.out_of_memory import halve_members, release_and_warn
from fastplast.machine.profiling import annotate
from fastplast.networks import Network
from fastplast.problems import Task

_SHARED, _OWN = ("images", "scale", "shift"), ("rows", "labels", "pixels")  # tables of a task: of all, of each member
_MOST_MEMBERS = 65_535  # of a launch: the second axis of a CUDA grid
_LEAST_CAPABILITY = (8, 0)
_GRAPH = 128  # updates of a graph at most: longer calls replay it several times, and the rest from a graph of its own


def missing_kernels(group: Group) -> str | None:
    """What the engine has no kernels for.

    Args:
        group: what to train.

    Returns:
        The reason why it can't be trained, or None.
    """
    if reason := without_kernels(group):
        return reason
    hooks = Hooks(group, "cpu")
    if hooks.acts_on_updates or hooks.restarts_count:
        return (
            f"it has no kernels for --method {hooks.uses[0].name}"
            if hooks.uses
            else (f"it has no kernels for --optimizer-reset {group.optimizer_reset}")
        )
    return None


def missing_on_cuda(group: Group, device: torch.device) -> str | None:
    """What the engine would need to serve a group.

    Args:
        group: what to train.
        device: where.

    Returns:
        The reason why it can't, or None if it can.
    """
    if device.type != "cuda":
        return f"it trains on an NVIDIA GPU, not on {device.type}"
    if reason := missing_kernels(group):
        return reason
    if len(group.members) > _MOST_MEMBERS:
        return f"it trains at most {_MOST_MEMBERS:,} members at once, not {len(group.members):,}"
    if torch.version.hip is not None:
        return "its kernels are for NVIDIA GPUs, and this PyTorch is built for ROCm"
    if importlib.util.find_spec("triton") is None:
        return "it needs Triton, which is not installed"
    if torch.cuda.is_available() and (found := torch.cuda.get_device_capability(device)) < _LEAST_CAPABILITY:
        return f"its kernels need compute capability 8.0 or newer, and this GPU has {found[0]}.{found[1]}"
    return None


@dataclass
class _Captured:
    """What calls of one shape need: memory, and graphs of numbers of updates.

    Attributes:
        step: memory of the kernels.
        task: whose tables `step` holds.
        first: of the members that they are of.
        graphs: number of updates to graph.
    """

    step: Any
    task: Task | None = None
    first: int = 0
    graphs: dict[int, torch.cuda.CUDAGraph] = field(default_factory=dict)


class CudaEngine(Engine):
    """Trains built-in networks; draws, order of updates and results are those of ``vmap`` to tolerance.

    A member's bits do not depend on the other members, or on how updates are split into calls. Members are trained on
    copies of their state that are given back at the end of a call, so that whatever fails leaves the state consistent.
    Where memory does not suffice for all at once, they are trained part by part.

    Args:
        group: what to train.
        state: of the group, for its initial parameters; on the device.
        device: an NVIDIA GPU. On a CPU, with Triton's interpreter, only without graphs.
        graphs: whether to capture updates; or else each is launched by itself.
        precision: of large products in the passes forward and backward, ``ieee`` or ``tf32``.
    """

    name = "cuda"

    def __init__(
        self, group: Group, state: GroupState, device: torch.device, graphs: bool = True, precision: str = "ieee"
    ) -> None:
        assert isinstance(group.network, Network)  # `missing_on_cuda` was asked
        self.group, self.device, self.precision, self._with_graphs = group, device, precision, graphs
        self.pull = pull_of(group, state)
        self.layers = kernel_layers(group.network, group.reduction)
        self.hyper = group.hyper.to(device)
        self._keys = dropout_keys(group) if group.network.dropout else None
        self.at_once = len(group.members)
        self._captured: dict[tuple[object, ...], _Captured] = {}

    def prepare(self, state: GroupState, task: Task, order: Tensor) -> None:
        """Captures the graphs of a call; see ``Engine.prepare``. If memory does not suffice, `run` will see to it."""
        with contextlib.suppress(torch.OutOfMemoryError):
            self._prepared(state, task, order, slice(0, min(self.at_once, len(state.params))))

    def run(self, state: GroupState, task: Task, order: Tensor) -> Accumulators:
        """Trains on minibatches in order; see ``Engine.run``."""
        parts, first = [], 0
        while first < len(state.params):
            members = slice(first, min(first + self.at_once, len(state.params)))
            part = self._attempt(state, task, order, members)
            if part is None:
                self._halve()
                continue
            parts.append(part)
            first = members.stop
        return Accumulators(*(torch.cat(column) for column in zip(*parts)))

    def _attempt(self, state: GroupState, task: Task, order: Tensor, members: slice) -> tuple[Tensor, ...] | None:
        """Trains some members; None, and nothing has changed, if memory does not suffice."""
        from fastplast_kernels.train_step import training

        try:
            captured = self._prepared(state, task, order, members)

            def replay(count: int) -> None:
                for updates in _parts(count):
                    with annotate(f"replay {updates}"):
                        captured.graphs[updates].replay()

            params, m, v, steps, diverged = (
                getattr(state, name)[members] for name in ("params", "m", "v", "steps", "diverged")
            )
            return training.train(
                captured.step, params, m, v, steps, diverged, self.hyper.rows(members),
                replay if self._with_graphs else None,
            )  # fmt: skip
        except torch.OutOfMemoryError:
            return None  # once the frames that hold memory are gone, there is more

    def _halve(self) -> None:
        """Gives memory back and goes on with half as many members at once; an error if one by itself does not fit."""
        self._captured.clear()
        before, self.at_once = self.at_once, halve_members(self.at_once, len(self.group.members))
        release_and_warn(f"{before:,} members at once: {self.at_once:,} are trained at a time")

    def _prepared(self, state: GroupState, task: Task, order: Tensor, members: slice) -> _Captured:
        """Memory for a call, holding the tables, order and targets of some members, and its graphs."""
        from fastplast_kernels.train_step import launches
        from fastplast_kernels.train_step.gpu_conv_launches import convolutions_of

        count = members.stop - members.start
        shape = (*order.shape[1:], *task.rows.shape[1:], *task.images.shape, task.images.dtype, task.pixels is None)
        captured = self._captured.get(shape)
        if captured is None:
            room = slice(self.at_once)
            pull = self.pull if self.pull.active else None
            step = launches.allocate(
                state.params[room], self.layers, _rows(task, room), order[room], self.group.optimizer,
                self.group.decoupled, pull and pull.anchor, pull and pull.ranked, self.precision,
                convolutions_of(self.layers), None if self._keys is None else self._keys[room],
            )  # fmt: skip
            captured = _Captured(step)
            if self._with_graphs:
                self._capture(captured)
            self._captured[shape] = captured
        step = captured.step
        if captured.task is not task or captured.first != members.start:
            for name in _SHARED:
                getattr(step, name).copy_(getattr(task, name))
            for name in _OWN:
                if getattr(task, name) is not None:
                    getattr(step, name)[:count] = getattr(task, name)[members]
            if self.pull.active:
                launches.aim(step, self.pull.anchor[members], self.pull.ranked[members])
            if self._keys is not None:
                launches.draw(step, self._keys[members])
            captured.task, captured.first = task, members.start
        step.order[:count] = order[members].to(step.order.device)
        return captured

    def _capture(self, captured: _Captured) -> None:
        """Captures graphs. No member has an update to make meanwhile: compiling and capturing change no state."""
        from fastplast_kernels.train_step import launches

        step = captured.step
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            launches.update(step)
        torch.cuda.current_stream(self.device).wait_stream(stream)
        for updates in set(_parts(step.steps)):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # another thread may be measuring
                for _ in range(updates):
                    launches.update(step)
            captured.graphs[updates] = graph


def _rows(task: Task, members: slice) -> Task:
    """The task of some members."""
    return dataclasses.replace(
        task, **{name: getattr(task, name)[members] for name in _OWN if getattr(task, name) is not None}
    )


def _parts(count: int) -> list[int]:
    """Numbers of updates of the graphs that make `count`."""
    whole, rest = divmod(count, _GRAPH)
    return [_GRAPH] * whole + [rest] * (rest > 0)
