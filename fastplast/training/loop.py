"""The loop over tasks, top to bottom.

``training`` is a generator of events that trains, measures and stores what ``setup.prepare`` made ready. Whoever
iterates it may print them, or stop.
"""

from __future__ import annotations

import dataclasses
import functools
import time
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from fastplast.config import DEFINITIONS
from fastplast.engines import Accumulators, GroupState, pull_of
from fastplast.losses import LOSSES
from fastplast.machine import profiling
from fastplast.machine.out_of_memory import release_and_warn
from fastplast.measuring import probes
from fastplast.measuring.earlier import earlier_columns
from fastplast.measuring.group import measure_group
from fastplast.measuring.measurement import Column, Measurement
from fastplast.measuring.metrics import definitions_of, units_of
from fastplast.problems import Task, make_task
from fastplast.problems.head_reset import reset_head
from fastplast.runs.weights import moment
from fastplast.runs.writer import RunWriter
from fastplast.training.background import BackgroundWorker
from fastplast.training.checks import check_checkpoint, naming_user_code
from fastplast.training.orders import EpochOrders
from fastplast.training.setup import Setup, identity_columns, member_columns, task_to_device, to_device
from fastplast.training.timing import Timing

_Start = tuple[GroupState, Measurement]  # what is measured at a task's start, and what was found

_REPORT_SECONDS = 2.0  # between two reports of progress: a small file and a flush each
_CALL_SECONDS = 0.5  # of training between two questions whether to stop


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
        stop: called after every epoch, or twice a second where epochs are shorter; True ends training after a
            checkpoint.

    Yields:
        What happened.
    """
    e, device = setup.experiment, setup.engine.device
    with (
        writer,
        writer.beating(),
        BackgroundWorker[_Start](device, at_once=not e.overlap) as worker,
        EpochOrders(e, setup.group.seeds, ahead=device.type == "cuda") as orders,
        naming_user_code(setup, writer.run.path),
    ):
        yield from _Loop(setup, writer, worker, orders, stop).run()


class _Loop:
    """Trains, measures and stores one task after the other.

    Attributes:
        at_start: `[M, P]` parameters at the task's start.
        sums: over the task's updates.
        expected: `[2, M]` stable ranks expected at task start and end: those last measured.
        timing: of the task.
        is_first_epoch: whether this process has trained none yet.
    """

    def __init__(
        self,
        setup: Setup,
        writer: RunWriter,
        worker: BackgroundWorker[_Start],
        orders: EpochOrders,
        stop: Callable[[], bool],
    ) -> None:
        members = len(setup.group.members)
        self.setup, self.writer, self.worker, self.orders, self.stop = setup, writer, worker, orders, stop
        self.at_start = setup.state.params.clone()
        self.sums = Accumulators.zeros(members)
        self.expected = torch.full((2, members), -1)
        self.timing, self.is_first_epoch = Timing(), True
        self.saved = self.reported = time.monotonic()

    def run(self) -> Iterator[Event]:
        """All tasks that are left."""
        setup, position = self.setup, self._restore()
        self.writer.write_progress(position)
        names = setup.experiment.metrics
        loss = LOSSES[setup.group.loss]
        definitions = DEFINITIONS | loss.definitions | setup.hooks.definitions()
        self.writer.write_definitions(definitions | definitions_of(names), loss.units | units_of(names))
        for index in profiling.annotate_each("task", range(position["task"], setup.experiment.tasks or 0)):
            task = task_to_device(setup, make_task(setup.problem, index))
            is_stopped = yield from self._run_task(task, position["epoch"] if index == position["task"] else 0)
            if is_stopped:
                return
        self.writer.finish()

    def _run_task(self, task: Task, first_epoch: int) -> Generator[Event, None, bool]:
        """A task from an epoch on; returns whether training stopped."""
        e, self.timing = self.setup.experiment, Timing()
        if first_epoch == 0:
            self._begin(task)
        epoch = first_epoch
        while epoch < e.epochs:
            if self.worker.is_done:
                yield self._store_start(task)
            epochs = range(epoch, epoch + min(self._epochs_at_once(), e.epochs - epoch))
            yield from self._train_epochs(task, epochs)
            epoch = epochs.stop
            if epoch < e.epochs:
                must_stop = self.stop()
                if must_stop or self._is_checkpoint_due():
                    if self.worker.is_pending:
                        yield self._store_start(task)
                    self._save(task.index, epoch)
                if must_stop:
                    yield self._stopped(task.index, epoch)
                    return True
        seconds = self.timing.training
        if self.worker.is_pending:
            yield self._store_start(task)
        yield self._end(task, seconds)
        if self.stop() and task.index + 1 < (e.tasks or 0):
            self._save(task.index + 1, 0)
            yield self._stopped(task.index + 1, 0)
            return True
        return False

    def _begin(self, task: Task) -> None:
        """Begins a task, and its measurement in a state that training leaves alone."""
        e, state, group = self.setup.experiment, self.setup.state, self.setup.group
        reset_head(e.head_reset, state.params, state.diverged < 0, group.network, group.seeds, task.index)
        self.setup.hooks.begin_task(state, task)
        self.at_start.copy_(state.params)
        self.sums = Accumulators.zeros(len(group.members))
        own = {"params": self.at_start, "steps": state.steps.clone(), "diverged": state.diverged.clone()}
        if e.keep_weights == "all" or (e.keep_weights == "tasks" and task.index == 0):
            self._write_weights(task.index, "start")
        before, expected = dataclasses.replace(state, **own), self.expected[0].clone()
        if e.overlap:
            self.setup.engine.prepare(state, task, self.orders.take(task.index, 0))
        with self.timing.count_as_waiting():
            self.worker.submit(lambda: (before, _measure(self.setup, before, task, "start", expected)))

    def _store_start(self, task: Task) -> TaskStarted:
        """Waits for the measurement of a task's start and stores it."""
        with self.timing.count_as_waiting():
            before, start = self.worker.result()
        self._remember(start, "start")
        self._write(task.index, "start", before, start, {})
        return TaskStarted(task.index, start.columns)

    def _epochs_at_once(self) -> int:
        """As many as fit into the time between two questions whether to stop, once it is known how long one takes."""
        if self.setup.experiment.keep_weights == "all" or not self.timing.epochs:
            return 1
        until_checkpoint = self.saved + 60 * self.setup.experiment.checkpoint_minutes - time.monotonic()
        return max(1, int(min(_CALL_SECONDS, until_checkpoint) * self.timing.rate))

    def _train_epochs(self, task: Task, epochs: range) -> Iterator[EpochDone]:
        """Epochs in one call of the engine, each told by itself."""
        setup, e, timing = self.setup, self.setup.experiment, self.timing
        begun = timing.training
        name = f"epoch {epochs.start}" if len(epochs) == 1 else f"epochs {epochs.start} to {epochs[-1]}"
        with profiling.annotate(name):
            orders = [self.orders.take(task.index, epoch) for epoch in epochs]
            found = setup.engine.run_epochs(setup.state, task, orders)
        timing.epochs += len(epochs)
        seconds = timing.training - begun
        if self.is_first_epoch:
            timing.first, self.is_first_epoch = timing.training, False
        if e.keep_weights == "all":
            self._write_weights(task.index, moment("", epochs.start))
        for epoch, sums in zip(epochs, found):
            self.sums.add(sums)
            if setup.curve is not None:
                setup.curve[epoch] = torch.stack(list(sums.means().values())).cpu()
        if time.monotonic() - self.reported > _REPORT_SECONDS:
            rate = len(setup.group.members) * e.steps_per_epoch() * timing.rate
            self.writer.write_progress({"task": task.index, "epoch": epochs.stop, "rate": rate})
            self.reported = time.monotonic()
        diverged = self._num_diverged()
        for i, (epoch, sums) in enumerate(zip(epochs, found), 1):
            count = max(int(sums.steps.sum()), 1)
            updates = (task.index * e.epochs + epoch + 1) * e.steps_per_epoch()
            means = float(sums.loss.sum()) / count, float(sums.error.sum()) / count
            yield EpochDone(task.index, epoch, updates, *means, diverged, begun + seconds * i / len(epochs))

    def _end(self, task: Task, train_seconds: float) -> TaskDone:
        """Measures and stores a task's end; after the last task, and where one is due, follows a checkpoint."""
        setup, state, timing = self.setup, self.setup.state, self.timing
        with timing.count_as_waiting():
            end = _measure(setup, state, task, "end", self.expected[1])
        self._remember(end, "end")
        columns = probes.update_columns(self.sums, state, self.at_start, setup.group.layout)
        if not LOSSES[task.loss].has_classes:
            del columns["online_error"]
        columns |= setup.hooks.columns(state)
        more: dict[str, Column] = {name: values.tolist() for name, values in columns.items()}
        self._write(task.index, "end", state, end, more | self._earlier_columns(task.index))
        self._write_curve(task.index)
        if setup.experiment.keep_weights != "none":
            self._write_weights(task.index, "end")
        if task.index + 1 == setup.experiment.tasks or self._is_checkpoint_due():
            self._save(task.index + 1, 0)
        seconds = {"train_seconds": train_seconds, "measure_seconds": timing.waiting}
        self.writer.append_timing({"task": task.index} | seconds | timing.hessian)
        self.writer.write_progress({"task": task.index + 1, "epoch": 0})
        return TaskDone(task.index, end.columns, self._num_diverged(), **seconds)

    def _earlier_columns(self, index: int) -> dict[str, Column]:
        """What is measured on the tasks before one, where that is asked for."""
        setup, count = self.setup, self.setup.experiment.earlier_tasks
        if not count:
            return {}
        before = range(index - 1, max(index - count, 0) - 1, -1)
        tasks = (task_to_device(setup, make_task(setup.problem, i)) for i in before)
        with self.timing.count_as_waiting():
            return earlier_columns(setup.group, setup.state, tasks, count)

    def _stopped(self, task: int, epoch: int) -> Stopped:
        self.writer.write_progress({"task": task, "epoch": epoch, "stopped": True})
        return Stopped(task, epoch)

    def _num_diverged(self) -> int:
        return int((self.setup.state.diverged >= 0).sum())

    def _remember(self, measured: Measurement, when: str) -> None:
        """Keeps what a measurement says about the next one and about its cost."""
        expected = self.expected[("start", "end").index(when)]
        expected.copy_(measured.expected(expected))
        if measured.hessian_seconds is not None:
            self.timing.hessian[f"hessian_seconds_{when}"] = measured.hessian_seconds

    def _write(self, task: int, when: str, state: GroupState, measured: Measurement, more: dict[str, Column]) -> None:
        steps = [step if step >= 0 else None for step in state.diverged.tolist()]
        columns: dict[str, Column] = {
            **member_columns(self.setup),
            "updates": state.steps.tolist(),
            "diverged": [step is not None for step in steps],
            "diverged_step": steps,
            **measured.columns,
            **more,
        }
        self.writer.write_metrics(task, when, columns)
        if measured.eigenvalues is not None:
            self.writer.write_spectra(task, when, measured.eigenvalues)

    def _write_weights(self, task: int, when: str) -> None:
        self.writer.write_weights(task, when, self.setup.group.layout.views(self.setup.state.params))

    def _write_curve(self, task: int) -> None:
        curve = self.setup.curve
        if curve is None:
            return
        epochs, _, members = curve.shape
        described = {name: list(values) * epochs for name, values in identity_columns(self.setup.group).items()}
        numbers = [epoch for epoch in range(epochs) for _ in range(members)]
        means = {name: curve[:, i].flatten().tolist() for i, name in enumerate(Accumulators.zeros(1).means())}
        self.writer.write_epochs(task, described, numbers, means)

    def _tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds, by name."""
        tensors = {f"state.{name}": tensor for name, tensor in self.setup.state.tensors().items()}
        tensors |= {f"sums.{name}": tensor for name, tensor in self.sums.tensors().items()}
        tensors |= {"task_start.params": self.at_start, "hessian.expected": self.expected}
        return tensors if self.setup.curve is None else tensors | {"curve": self.setup.curve}

    def _is_checkpoint_due(self) -> bool:
        return time.monotonic() - self.saved > 60 * self.setup.experiment.checkpoint_minutes

    def _save(self, task: int, epoch: int) -> None:
        self.writer.save_checkpoint(self._tensors(), {"task": task, "epoch": epoch})
        self.saved = time.monotonic()

    def _restore(self) -> dict[str, int]:
        """Brings everything to the run's last checkpoint, which a new run gets; returns its position."""
        found = self.writer.load_checkpoint()
        if found is None:
            self._save(0, 0)
            return {"task": 0, "epoch": 0}
        stored, position = found
        group, state, e = self.setup.group, self.setup.state, self.setup.experiment
        check_checkpoint(self.writer.run.path, stored, position, self._tensors(), e)
        if damage := self.writer.find_damage(position):
            warnings.warn(f"{damage} The run is trained from its first task again, to the same results.", stacklevel=2)
            self.writer.begin_again()
            self._save(0, 0)
            return {"task": 0, "epoch": 0}
        is_init_the_same = torch.equal(state.init.cpu(), stored["state.init"])
        for name, tensor in self._tensors().items():
            tensor.copy_(stored[name])
        if not is_init_the_same:  # a factory draws outside its seed, or on another machine
            self.setup.engine.pull = pull_of(group, state)
        return position


def _measure(setup: Setup, state: GroupState, task: Task, when: str, expected: Tensor) -> Measurement:
    """Measures what the experiment asks for at a task's start or end; on the CPU where a GPU has no memory for it."""
    e, pull = setup.experiment, setup.engine.pull
    measured_here = e.srank == "both" or (e.srank == "start" and when == "start")
    measure = functools.partial(
        measure_group,
        setup.group,
        with_probes=task.index % e.probe_every == 0,
        with_hessian=measured_here and task.index % e.srank_every == 0,
        with_weights=when == "end" or task.index == 0 or e.head_reset != "none" or setup.hooks.acts_at_tasks,
        method=e.srank_method,
        expected=expected,
        metrics=e.metrics,
    )
    with profiling.annotate(f"probe at {when}"):
        try:
            return measure(state, task, pull)
        except torch.OutOfMemoryError:
            pass  # once the frames that hold memory are gone, there is more
        release_and_warn(f"measuring beside training: task {task.index} is measured on the CPU at its {when}")
        cpu = torch.device("cpu")
        return measure(to_device(state, cpu), to_device(task, cpu), to_device(pull, cpu))
