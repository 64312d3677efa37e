"""Updates of the cuda engine's kernels by themselves: captured once, replayed and timed, together or one by one.

Whatever calls kernels without the engine does it through here.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from fastplast_kernels.train_step import launches, training
from fastplast_kernels.train_step.gpu_conv_launches import convolutions_of
from fastplast_kernels.wasserstein import buckets
from torch import Tensor

from fastplast import seeding
from fastplast.config import Experiment
from fastplast.engines import CudaEngine
from fastplast.problems import Task, make_task
from fastplast.training.setup import Setup, prepare, task_to_device

Work = Callable[[], object]
ON_GPU = torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1"
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
UPDATES, ROUNDS, REAL = (80, 7, 30) if ON_GPU else (1, 1, 1)  # of a call; timed; members that are prepared
AGAIN = 20  # launches of one kernel in a graph
NETWORKS = {"mlp": {"benchmark": "mnist_shuffle"}, "cnn": {"benchmark": "cifar_shuffle"}}
SMALL = {  # the smallest of the same kinds
    "mlp": {"widths": (4, 3), "examples": 4, "batch_size": 4},
    "cnn": {"widths": (4,), "channels": (2, 2), "examples": 2, "batch_size": 2},
}


@functools.lru_cache(2)
def setup_of(network: str, members: int, method: str = "none", small: bool = not ON_GPU) -> Setup:
    """Members on the device, with the vmap engine."""
    strength = {} if method == "none" else {"strength": (0.01,)}
    fields = NETWORKS[network] | (SMALL[network] if small else {}) | strength
    return prepare(Experiment(**fields, seeds=members, method=method, device=DEVICE.type, engine="vmap", srank="off"))


def task_of(setup: Setup) -> Task:
    """The first task, on the device."""
    return task_to_device(setup, make_task(setup.problem, 0))


def mend_interpreter() -> None:
    """Lets Triton's interpreter run beside this NumPy, and faster, as tests do."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests/kernels/gpu"))
    import interpreter

    interpreter.mend_loop_bounds()
    interpreter.patch_language_once()
    interpreter.leave_out_checks_of_overflow()


def captured(work: Work) -> Work:
    """Work as a CUDA graph of its launches; on a CPU as it is."""
    if not ON_GPU:
        return work
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work()  # compiles
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def microseconds(work: Work, rounds: int, before: Work = lambda: None) -> float:
    """Median of rounds: between two events on a GPU, by the clock on a CPU; `before` each round, not timed."""
    times = []
    for _ in range(rounds):
        before()
        if ON_GPU:
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            work()
            end.record()
            end.synchronize()
            times.append(1e3 * start.elapsed_time(end))
        else:
            begun = time.perf_counter()
            work()
            times.append(1e6 * (time.perf_counter() - begun))
    return statistics.median(times)


class Replay:
    """A call of updates of M members, who are those of a setup, each as often as it takes.

    Args:
        setup: of the network, its data and initial parameters, on the device.
        members: M.
        updates: of the call; a setup whose epoch has fewer makes as many as that.
    """

    def __init__(self, setup: Setup, members: int, updates: int) -> None:
        group, state, device = setup.group, setup.state, setup.state.params.device
        engine = CudaEngine(group, state, device, graphs=False)
        rows = torch.arange(members, device=device) % len(group.members)
        whole = task_of(setup)
        own = {name: getattr(whole, name) for name in ("rows", "labels", "pixels")}
        task = dataclasses.replace(whole, **{k: None if v is None else v[rows] for k, v in own.items()})
        epoch = torch.from_numpy(seeding.orders(group.seeds, whole.num_examples, setup.experiment.batch_size, 0, 0))
        order = epoch.to(device)[rows, :updates].contiguous()
        target = (engine.pull.anchor[rows], engine.pull.ranked[rows]) if engine.pull.active else (None, None)
        self.step = launches.allocate(
            state.params[rows], engine.layers, task, order, group.optimizer, group.decoupled, *target,
            below=convolutions_of(engine.layers),
        )  # fmt: skip
        self._params, self._hyper = state.params[rows], type(engine.hyper)(*(value[rows] for value in engine.hyper))
        self.members, self.updates = members, order.shape[1]
        self._graph: Work | None = None

    def begin(self) -> None:
        """Brings the members back to their start."""
        self.step.params.copy_(self._params)
        for moment in (self.step.m, self.step.v):
            moment.zero_()
        none = torch.zeros(self.members, dtype=torch.int64, device=self._params.device)
        training.begin(self.step, self._hyper, none, none + self.updates)

    def run(self) -> None:
        """All updates, launch by launch."""
        for _ in range(self.updates):
            launches.update(self.step)

    def graph(self) -> Work:
        """All updates as a graph."""
        if self._graph is None:
            self.begin()
            self._graph = captured(self.run)
        return self._graph

    def losses(self) -> Tensor:
        """`[M]` mean loss of the updates since `begin`, and a check that all were made.

        Raises:
            RuntimeError: if a member stopped before the last.
        """
        training.finish(self.step)
        made = self.step.members[:, 0]
        if not bool((made == self.updates).all()):
            raise RuntimeError(f"all members must make {self.updates} updates: got {made.min()} to {made.max()}.")
        return self.step.sums[:, 0] / self.updates

    def replay_time(self, rounds: int) -> float:
        """Microseconds of an update of all members."""
        return microseconds(self.graph(), rounds, self.begin) / self.updates

    def launch_times(self, rounds: int, only: str = "") -> dict[str, float]:
        """Microseconds of each launch of an update, one kernel many times over; or of those whose names end so.

        Updates that insert weights into buckets are timed with the scan that empties them: it must follow them.
        """
        step, every = self.step, launches.launches(self.step)
        inserting = [launch for launch in every if launch.constants.get("INSERT")]
        others = [launch for launch in every if launch not in inserting]
        timed: dict[str, tuple[list[Work], list[Work]]] = {  # each after others, so that it has work to do
            f"{every.index(launch) + 1} {launch.kernel.__name__}": ([launch], others[:number])
            for number, launch in enumerate(others)
        }
        if step.buckets is not None:
            scan, rank = lambda: buckets.scan(step.buckets), lambda: buckets.deal(step.buckets, step.anchor, step.q)
            timed["scan"] = [scan], others
            timed["updates and scan"] = [*inserting, scan], others
            timed["updates, scan and ranks"] = [*inserting, scan, rank], others
        return {name: self._time(*work, rounds) for name, work in timed.items() if name.endswith(only)}

    def _time(self, timed: list[Work], before: list[Work], rounds: int) -> float:
        """Of launches one after another, in the state that others leave."""
        again = min(AGAIN, self.updates)

        def ready() -> None:
            self.begin()
            for launch in before:
                launch()

        def many() -> None:
            for _ in range(again):
                for launch in timed:
                    launch()

        ready()
        return microseconds(captured(many), rounds, ready) / again

    def profile(self) -> dict[str, float]:
        """Microseconds of an update in each kernel of a replay, by the profiler."""
        self.graph()
        self.begin()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
            self.graph()()
            torch.cuda.synchronize()
        return {event.key: event.device_time_total / self.updates for event in profiler.key_averages()}
