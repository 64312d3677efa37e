"""The loop over tasks, top to bottom.

``training`` is a generator of events that trains, measures and stores what ``preparation`` set up. Whoever iterates it
may print them, or stop.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fastplast import seeding
from fastplast.engines import Accumulators, GroupState
from fastplast.machine import profiling
from fastplast.machine.out_of_memory import give_back
from fastplast.measuring import probes
from fastplast.measuring.group import Column, Measurement, due, measure_group
from fastplast.problems import Task, make_task
from fastplast.problems.head_reset import reset_head
from fastplast.runs.writer import RunWriter
from fastplast.training.background import Beside
from fastplast.training.setup import Setup, describe, identify, moved, on_device

_TELL_SECONDS = 2.0  # between two words on progress: a small file and a flush each


@dataclass(frozen=True)
class TaskStarted:
    """A task was measured as it was before its first update; where measuring overlaps, some epochs may be done."""

    task: int
    columns: dict[str, Column]


@dataclass(frozen=True)
class EpochDone:
    """An epoch was trained: `updates` of each member so far, mean batch loss and error of the epoch, members frozen."""

    task: int
    epoch: int
    updates: int
    loss: float
    error: float
    diverged: int
    seconds: float


@dataclass(frozen=True)
class TaskDone:
    """A task was trained, measured and stored."""

    task: int
    columns: dict[str, Column]
    diverged: int
    train_seconds: float
    measure_seconds: float


@dataclass(frozen=True)
class Stopped:
    """Training stopped on request after a checkpoint: `epoch` epochs of `task` are done."""

    task: int
    epoch: int


Event = TaskStarted | EpochDone | TaskDone | Stopped


def training(setup: Setup, writer: RunWriter, stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Trains through all tasks from the run's last checkpoint, or from the start.

    Everything is a function of the seeds and of the checkpoint, so a run killed at any moment goes on to the same bits.

    Args:
        setup: from ``prepare``.
        writer: of the run directory.
        stop: asked after every epoch; True ends training after a checkpoint.

    Yields:
        What happened.
    """
    with writer:
        yield from _training(setup, writer, stop)


@dataclass
class _Kept:
    """What the loop keeps beside the state, all of it in a checkpoint.

    Attributes:
        at_start: `[M, P]` parameters at the task's start.
        sums: over the task's updates.
        expected: `[2, M]` stable ranks expected at task start and end: those last measured.
    """

    at_start: Tensor
    sums: Accumulators
    expected: Tensor


@dataclass
class _Spent:
    """Seconds of a task: waited for measurements, and of each member's Hessian where they were measured."""

    waited: float = 0.0
    hessian: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        clock = time.perf_counter()
        yield
        self.waited += time.perf_counter() - clock


def _training(setup: Setup, writer: RunWriter, stop: Callable[[], bool]) -> Iterator[Event]:
    e, group, state = setup.experiment, setup.group, setup.state
    position, kept = _restore(setup, writer)
    saved = told = time.monotonic()
    writer.write_progress(position)
    writer.write_definitions(probes.DEFINITIONS)
    with Beside[Measurement](setup.engine.device, at_once=not e.overlap) as beside:
        for index in profiling.each("task", range(position["task"], e.tasks or 0)):
            task, spent, before = on_device(setup, make_task(setup.problem, index)), _Spent(), state
            first = position["epoch"] if index == position["task"] else 0
            if first == 0:
                before = _begin(setup, task, kept, beside, spent)
            clock = time.perf_counter() - spent.waited
            for epoch in profiling.each("epoch", range(first, e.epochs)):
                if beside.is_done:
                    yield _started(setup, writer, index, before, kept, beside, spent)
                order = seeding.orders(group.seeds, e.examples, e.batch_size, index, epoch)
                done = setup.engine.run(state, task, torch.from_numpy(order))
                kept.sums.add(done)
                if setup.curve is not None:
                    setup.curve[epoch] = torch.stack(list(done.means().values())).cpu()
                seconds = time.perf_counter() - clock - spent.waited
                if time.monotonic() - told > _TELL_SECONDS:
                    rate = len(group.members) * e.steps_per_epoch() * (epoch + 1 - first) / seconds
                    writer.write_progress({"task": index, "epoch": epoch + 1, "rate": rate})
                    told = time.monotonic()
                yield _epoch_event(setup, index, epoch, done, seconds)
                if epoch + 1 < e.epochs:
                    asked = stop()
                    if asked or time.monotonic() - saved > 60 * e.checkpoint_minutes:
                        if beside.is_pending:
                            yield _started(setup, writer, index, before, kept, beside, spent)
                        _save(setup, writer, {"task": index, "epoch": epoch + 1}, kept)
                        saved = time.monotonic()
                    if asked:
                        yield _stopped(writer, index, epoch + 1)
                        return
            trained = time.perf_counter() - clock - spent.waited
            if beside.is_pending:
                yield _started(setup, writer, index, before, kept, beside, spent)
            columns = _end(setup, writer, task, kept, spent)
            saved = time.monotonic()
            writer.append_timing(
                {"task": index, "train_seconds": trained, "measure_seconds": spent.waited} | spent.hessian
            )
            yield TaskDone(index, columns, _diverged(state), trained, spent.waited)
            if stop() and index + 1 < (e.tasks or 0):
                yield _stopped(writer, index + 1, 0)
                return
    writer.finish()


def _begin(setup: Setup, task: Task, kept: _Kept, beside: Beside[Measurement], spent: _Spent) -> GroupState:
    """Begins a task and its measurement; returns the state as it is measured, which training leaves alone."""
    e, state, group = setup.experiment, setup.state, setup.group
    reset_head(e.head_reset, state.params, state.diverged < 0, group.network, group.seeds, task.index)
    kept.at_start.copy_(state.params)
    kept.sums = Accumulators.zeros(len(group.members))
    before = dataclasses.replace(
        state, params=kept.at_start, steps=state.steps.clone(), diverged=state.diverged.clone()
    )
    with spent.waiting():
        beside.begin(functools.partial(_measure, setup, before, task, "start", kept.expected[0].clone()))
    return before


def _started(
    setup: Setup, writer: RunWriter, index: int, before: GroupState, kept: _Kept, beside: Beside[Measurement],
    spent: _Spent,
) -> TaskStarted:  # fmt: skip
    """Takes and stores the measurement of a task's start."""
    with spent.waiting():
        start = beside.take()
    _learn(start, 0, kept, spent)
    _write(setup, writer, index, "start", before, start, {})
    return TaskStarted(index, start.columns)


def _end(setup: Setup, writer: RunWriter, task: Task, kept: _Kept, spent: _Spent) -> dict[str, Column]:
    """Measures and stores a task's end, and the checkpoint after it."""
    state = setup.state
    with spent.waiting():
        end = _measure(setup, state, task, "end", kept.expected[1])
    _learn(end, 1, kept, spent)
    columns = probes.update_columns(kept.sums, state, kept.at_start, setup.group.layout)
    _write(setup, writer, task.index, "end", state, end, {k: v.tolist() for k, v in columns.items()})
    _write_curve(setup, writer, task.index)
    _save(setup, writer, {"task": task.index + 1, "epoch": 0}, kept)
    return end.columns


def _learn(measured: Measurement, time_of_task: int, kept: _Kept, spent: _Spent) -> None:
    """Keeps what a measurement at a task's start, 0, or end, 1, says about the next and about its cost."""
    kept.expected[time_of_task] = measured.expected(kept.expected[time_of_task])
    if measured.member_seconds is not None:
        spent.hessian[f"hessian_seconds_{('start', 'end')[time_of_task]}"] = measured.member_seconds


def _diverged(state: GroupState) -> int:
    return int((state.diverged >= 0).sum())


def _measure(setup: Setup, state: GroupState, task: Task, when: str, expected: Tensor) -> Measurement:
    e, pull = setup.experiment, setup.engine.pull
    hessian = e.srank == "both" or (e.srank == "start" and when == "start")
    measured = functools.partial(
        measure_group,
        setup.group,
        with_probes=due(task.index, e.probe_every),
        with_hessian=hessian and due(task.index, e.srank_every),
        with_weights=when == "end" or task.index == 0 or e.head_reset != "none",
        method=e.srank_method,
        expected=expected,
    )
    with profiling.annotated(f"probe at {when}"):
        try:
            return measured(state, task, pull)
        except torch.OutOfMemoryError:
            pass  # once the frames that hold memory are gone, there is more
        give_back(f"measuring beside training: task {task.index} is measured on the CPU at its {when}")
        cpu = torch.device("cpu")
        return measured(moved(state, cpu), moved(task, cpu), moved(pull, cpu))


def _write(
    setup: Setup, writer: RunWriter, task: int, when: str, state: GroupState, measured: Measurement,
    more: dict[str, Column],
) -> None:  # fmt: skip
    steps = [s if s >= 0 else None for s in state.diverged.tolist()]
    columns: dict[str, Column] = {
        **describe(setup),
        "updates": state.steps.tolist(),
        "diverged": [s is not None for s in steps],
        "diverged_step": steps,
        **measured.columns,
        **more,
    }
    writer.write_metrics(task, when, columns)
    if measured.eigenvalues is not None:
        writer.write_spectra(task, when, measured.eigenvalues)


def _write_curve(setup: Setup, writer: RunWriter, task: int) -> None:
    if setup.curve is None:
        return
    epochs, _, members = setup.curve.shape
    described = {name: list(values) * epochs for name, values in identify(setup).items()}
    values = {n: setup.curve[:, i].flatten().tolist() for i, n in enumerate(Accumulators.zeros(1).means())}
    writer.write_epochs(task, described, [epoch for epoch in range(epochs) for _ in range(members)], values)


def _epoch_event(setup: Setup, task: int, epoch: int, done: Accumulators, seconds: float) -> EpochDone:
    e = setup.experiment
    counted = max(int(done.steps.sum()), 1)
    updates = (task * e.epochs + epoch + 1) * e.steps_per_epoch()
    loss, error = float(done.loss.sum()) / counted, float(done.error.sum()) / counted
    return EpochDone(task, epoch, updates, loss, error, _diverged(setup.state), seconds)


def _stopped(writer: RunWriter, task: int, epoch: int) -> Stopped:
    writer.write_progress({"task": task, "epoch": epoch, "stopped": True})
    return Stopped(task, epoch)


def _save(setup: Setup, writer: RunWriter, position: dict[str, int], kept: _Kept) -> None:
    tensors = {f"state.{k}": v for k, v in setup.state.tensors().items()}
    tensors |= {f"sums.{k}": v for k, v in kept.sums.tensors().items()}
    tensors |= {"task_start.params": kept.at_start, "hessian.expected": kept.expected}
    if setup.curve is not None:
        tensors["curve"] = setup.curve
    writer.save_checkpoint(tensors, position)


def _restore(setup: Setup, writer: RunWriter) -> tuple[dict[str, int], _Kept]:
    """Brings the state to the run's last checkpoint; a new run gets its first."""
    members = len(setup.group.members)
    state, sums, expected = setup.state, Accumulators.zeros(members), torch.full((2, members), -1)
    found = writer.load_checkpoint()
    if found is None:
        position, kept = {"task": 0, "epoch": 0}, _Kept(state.params.clone(), sums, expected)
        _save(setup, writer, position, kept)
        return position, kept
    tensors, position = found
    for name, tensor in state.tensors().items():
        tensor.copy_(tensors[f"state.{name}"])
    for name, tensor in sums.tensors().items():
        tensor.copy_(tensors[f"sums.{name}"])
    if setup.curve is not None:
        setup.curve.copy_(tensors["curve"])
    at_start = tensors["task_start.params"].to(state.params.device, copy=True)
    return position, _Kept(at_start, sums, tensors["hessian.expected"].clone())
