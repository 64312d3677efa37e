"""The ``cuda`` engine: each update a few Triton launches, each call of `run` replays of a CUDA graph of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from fastplast_kernels.mlp_step import DenseLayer
from torch import Tensor

from fastplast.config import ELEMENTWISE
from fastplast.engines.base import Accumulators, Group, GroupState, pull_of
from fastplast.engines.cpu import kernel_layers
from fastplast.networks import Conv, ModuleNetwork, Network
from fastplast.problems import Task

_TABLES = ("images", "rows", "labels", "pixels", "scale", "shift")
_GRAPH = 128  # updates of a graph at most: longer calls replay it several times, and the rest from a graph of its own


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
    network = group.network
    if isinstance(network, ModuleNetwork):
        return f"it has no kernels for the module {network.name.removeprefix('module:')}"
    if network.activation not in ELEMENTWISE:
        return f"it has no kernel for {network.activation}"
    if any(isinstance(layer, Conv) for layer in network.layers):
        return "it has no kernel for convolutions"
    if any(layer.norm for layer in network.layers):
        return "it has no kernel for layer normalisation"
    if network.dropout:
        return "it has no kernel for dropout"
    if importlib.util.find_spec("triton") is None:
        return "it needs Triton, which is not installed"
    return None


@dataclass
class _Captured:
    """What a call of one shape needs: memory, and graphs of numbers of updates.

    Attributes:
        step: memory of the kernels.
        addresses: of the state that the graphs update.
        task: whose tables `step` holds.
        graphs: number of updates to graph.
    """

    step: Any
    addresses: tuple[int, ...]
    task: Task
    graphs: dict[int, torch.cuda.CUDAGraph]


class CudaEngine:
    """Trains built-in perceptrons; draws, order of updates and results are those of ``vmap`` to tolerance.

    A member's bits do not depend on the other members, or on how updates are split into calls.

    Args:
        group: what to train.
        state: of the group, for its initial parameters; on the device.
        device: an NVIDIA GPU. On a CPU, with Triton's interpreter, only without graphs.
        graphs: whether to capture updates; or else each is launched by itself.
    """

    name = "cuda"
    notice = None

    def __init__(self, group: Group, state: GroupState, device: torch.device, graphs: bool = True) -> None:
        assert isinstance(group.network, Network)  # `missing_on_cuda` was asked
        self.group, self.device, self._with_graphs = group, device, graphs
        self.pull = pull_of(group, state)
        layers = kernel_layers(group.network, group.reduction)
        self.layers = tuple(layer for layer in layers if isinstance(layer, DenseLayer))  # all of them
        self.hyper = group.hyper._replace(strength=self.pull.strength).to(device)
        self._captured: dict[tuple[int, ...], _Captured] = {}
        self._range: tuple[int, Any] | None = None

    def run(self, state: GroupState, task: Task, order: Tensor) -> Accumulators:
        """Trains on minibatches in order; see ``Engine.run``."""
        from fastplast_kernels.mlp_step import training

        self._mark(task)
        with _range(f"updates of task {task.index}"):
            captured = self._prepared(state, task, order)
            arenas = (state.params, state.m, state.v)

            def replay(count: int) -> None:
                for updates in _parts(count):
                    with _range(f"replay {updates}"):
                        captured.graphs[updates].replay()

            made, *sums = training.train(
                captured.step, *arenas, state.steps, state.diverged, self.hyper,
                replay if self._with_graphs else None,
            )  # fmt: skip
        return Accumulators(made, *sums)

    def _prepared(self, state: GroupState, task: Task, order: Tensor) -> _Captured:
        """Memory for a call, holding its task and its order, and its graphs."""
        from fastplast_kernels.mlp_step import launches

        shape = (*order.shape, *task.rows.shape, *task.images.shape, task.pixels is not None)
        addresses = tuple(tensor.data_ptr() for tensor in (state.params, state.m, state.v))
        captured = self._captured.get(shape)
        if captured is None or captured.addresses != addresses or captured.step.images.dtype != task.images.dtype:
            step = launches.allocate(
                state.params, self.layers, task, order, self.group.optimizer, self.group.decoupled,
                self.pull.anchor if self.pull.active else None, self.pull.ranked,
            )  # fmt: skip
            captured = self._captured[shape] = _Captured(step, addresses, task, {})
            if self._with_graphs:
                self._capture(captured, state)
        if captured.task is not task:
            for name in _TABLES:
                new = getattr(task, name)
                if new is not None:
                    getattr(captured.step, name).copy_(new)
            captured.task = task
        captured.step.order.copy_(order)
        return captured

    def _capture(self, captured: _Captured, state: GroupState) -> None:
        """Captures graphs. No member has an update to make meanwhile: compiling and capturing change no state."""
        from fastplast_kernels.mlp_step import launches, training

        step, arenas = captured.step, (state.params, state.m, state.v)
        training.begin(step, state.params, self.hyper, state.steps, torch.zeros_like(state.steps))
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            launches.update(step, *arenas)
        torch.cuda.current_stream(self.device).wait_stream(stream)
        for updates in set(_parts(step.steps)):
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                for _ in range(updates):
                    launches.update(step, *arenas)
            captured.graphs[updates] = graph

    def _mark(self, task: Task) -> None:
        """Ends the range of the task before, and starts that of this one."""
        nvtx = _nvtx()
        if nvtx is None or (self._range is not None and self._range[0] == task.index):
            return
        if self._range is not None:
            nvtx.end_range(self._range[1])
        self._range = task.index, nvtx.start_range(message=f"task {task.index}", domain="fastplast")


def _parts(count: int) -> list[int]:
    """Numbers of updates of the graphs that make `count`."""
    whole, rest = divmod(count, _GRAPH)
    return [_GRAPH] * whole + [rest] * (rest > 0)


def _nvtx() -> Any:
    """The package, None where it is not installed."""
    try:
        import nvtx
    except ImportError:
        return None
    return nvtx


@contextmanager
def _range(message: str) -> Iterator[None]:
    """A range for Nsight Systems; nothing without a tool or the package."""
    nvtx = _nvtx()
    if nvtx is None:
        yield
        return
    with nvtx.annotate(message=message, domain="fastplast"):
        yield
