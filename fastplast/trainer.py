"""The loop over tasks, top to bottom.

``prepare`` makes everything an experiment needs; ``training`` is a generator of events that trains, measures and
stores. Whoever iterates it may print them, or stop.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TypeVar, cast

import torch
from torch import Tensor

from fastplast import probes, ranges, seeding
from fastplast.config import MEMBER_HYPERPARAMETERS, ConfigError, Experiment
from fastplast.data import Dataset, load
from fastplast.engines import (
    Accumulators,
    Engine,
    Group,
    GroupState,
    available_cores,
    build_group,
    choose_device,
    choose_engine,
    new_state,
)
from fastplast.measure import Column, Measurement, check_block, due, measure_group
from fastplast.memory import give_back
from fastplast.methods import Pull
from fastplast.methods.head_reset import reset_head
from fastplast.networks import ModuleFactory, ModuleNetwork, build_network
from fastplast.problems import Problem, Task, build_problem, make_task
from fastplast.store import RunWriter

Held = TypeVar("Held", Task, GroupState, Pull)

_TELL_SECONDS = 2.0  # between two words on progress: a small file and a flush each


@dataclass
class Setup:
    """An experiment ready to run; ``curve`` is `[epochs, metrics, M]` of the task so far, where it is asked for."""

    experiment: Experiment
    source: str
    embedded: bool
    problem: Problem
    group: Group
    state: GroupState
    engine: Engine
    curve: Tensor | None = None

    @property
    def updates(self) -> int:
        """Updates of one member over the whole experiment."""
        e = self.experiment
        return (e.tasks or 0) * e.epochs * e.steps_per_epoch()


@dataclass(frozen=True)
class TaskStarted:
    """A task was measured before its first update."""

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


def prepare(experiment: Experiment, network: ModuleFactory | None = None, dataset: Dataset | None = None) -> Setup:
    """Loads data, builds the group and chooses the engine.

    Args:
        experiment: what to run.
        network: a factory of modules, in place of a built-in network.
        dataset: images in memory, in place of those that the experiment names.

    Returns:
        The setup, at its initial state.

    Raises:
        ConfigError: if parts of the experiment do not fit together.
    """
    e = experiment.resolved()
    torch.set_num_threads(e.threads or available_cores())
    device = choose_device(e)
    dataset = dataset or load(e.dataset, e.data_dir)
    members = e.members()
    problem = build_problem(e, dataset, tuple(member.seed for member in members))
    if network is None:
        net = build_network(e, problem.shape, problem.num_classes)
    else:
        net = ModuleNetwork(network, problem.shape, problem.num_classes)
    check_block(net, e)
    group = build_group(e, net, members)
    curve = torch.full((e.epochs, 4, len(members)), torch.nan, dtype=torch.float64) if e.epoch_curves else None
    try:
        state = _to(new_state(group), device)
        engine = choose_engine(e, group, state, device)
    except torch.OutOfMemoryError:
        raise ConfigError(_too_large(e, group, problem, device)) from None
    return Setup(e, dataset.source, dataset.is_embedded, problem, group, state, engine, curve)


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


def _training(setup: Setup, writer: RunWriter, stop: Callable[[], bool]) -> Iterator[Event]:
    e, group, state = setup.experiment, setup.group, setup.state
    pull = setup.engine.pull
    position, at_start, sums, expected = _restore(setup, writer)
    saved = told = time.monotonic()
    writer.write_progress(position)
    writer.write_definitions(probes.DEFINITIONS)
    for index in ranges.each("task", range(position["task"], e.tasks or 0)):
        task = _on_device(setup, make_task(setup.problem, index))
        first = position["epoch"] if index == position["task"] else 0
        measured, hessian_seconds = 0.0, {}
        if first == 0:
            reset_head(e.head_reset, state.params, state.diverged < 0, group.network, group.seeds, index)
            at_start.copy_(state.params)
            sums = Accumulators.zeros(len(group.members))
            start = _measure(setup, task, pull, "start", expected[0])
            expected[0] = start.expected(expected[0])
            hessian_seconds["hessian_seconds_start"] = start.member_seconds
            _write(setup, writer, index, "start", start, {})
            measured += sum(start.seconds.values())
            yield TaskStarted(index, start.columns)
        clock = time.perf_counter()
        for epoch in ranges.each("epoch", range(first, e.epochs)):
            order = seeding.orders(group.seeds, e.examples, e.batch_size, index, epoch)
            done = setup.engine.run(state, task, torch.from_numpy(order))
            sums.add(done)
            if setup.curve is not None:
                setup.curve[epoch] = torch.stack(list(done.means().values())).cpu()
            seconds = time.perf_counter() - clock
            if time.monotonic() - told > _TELL_SECONDS:
                rate = len(group.members) * e.steps_per_epoch() * (epoch + 1 - first) / seconds
                writer.write_progress({"task": index, "epoch": epoch + 1, "rate": rate})
                told = time.monotonic()
            yield _epoch_event(setup, index, epoch, done, seconds)
            if epoch + 1 < e.epochs:
                asked = stop()
                if asked or time.monotonic() - saved > 60 * e.checkpoint_minutes:
                    _save(setup, writer, {"task": index, "epoch": epoch + 1}, at_start, sums, expected)
                    saved = time.monotonic()
                if asked:
                    yield _stopped(writer, index, epoch + 1)
                    return
        trained = time.perf_counter() - clock
        end = _measure(setup, task, pull, "end", expected[1])
        expected[1] = end.expected(expected[1])
        hessian_seconds["hessian_seconds_end"] = end.member_seconds
        columns = probes.update_columns(sums, state, at_start, group.layout)
        _write(setup, writer, index, "end", end, {k: v.tolist() for k, v in columns.items()})
        _write_curve(setup, writer, index)
        _save(setup, writer, {"task": index + 1, "epoch": 0}, at_start, sums, expected)
        saved = time.monotonic()
        measured += sum(end.seconds.values())
        times = {"task": index, "train_seconds": trained, "measure_seconds": measured}
        writer.append_timing(times | {name: values for name, values in hessian_seconds.items() if values is not None})
        yield TaskDone(index, end.columns, _diverged(state), trained, measured)
        if stop() and index + 1 < (e.tasks or 0):
            yield _stopped(writer, index + 1, 0)
            return
    writer.finish()


def _to(holder: Held, device: torch.device) -> Held:
    """A task, a state or a rule, with its tensors on a device."""
    moved = {name: value.to(device) for name, value in vars(holder).items() if isinstance(value, Tensor)}
    return dataclasses.replace(holder, **moved)


def _on_device(setup: Setup, task: Task) -> Task:
    try:
        return _to(task, setup.engine.device)
    except torch.OutOfMemoryError:
        pass
    give_back("a task's data beside what was measured before: it is moved again")
    try:
        return _to(task, setup.engine.device)
    except torch.OutOfMemoryError:
        text = _too_large(setup.experiment, setup.group, setup.problem, setup.engine.device)
        raise ConfigError(text) from None


def _too_large(e: Experiment, group: Group, problem: Problem, device: torch.device) -> str:
    """What to say when a group and its data do not fit on a GPU: how many members would."""
    from fastplast.sweeps.memory import fitting

    engine = "cuda" if e.engine == "cuda" else "vmap"
    sizes = cast(Setup, SimpleNamespace(experiment=e, group=group, problem=problem))  # there may be no engine yet
    held = fitting(sizes, engine, torch.cuda.mem_get_info(device)[1])
    return (
        f"members and their data must fit in GPU memory: got {len(group.members):,} members, of which it holds about "
        f"{held:,} with engine {engine}. Use fewer --seeds, or fastplast sweep: its batches fit."
    )


def _diverged(state: GroupState) -> int:
    return int((state.diverged >= 0).sum())


def _measure(setup: Setup, task: Task, pull: Pull, when: str, expected: Tensor) -> Measurement:
    e = setup.experiment
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
    with ranges.annotated(f"probe at {when}"):
        try:
            return measured(setup.state, task, pull)
        except torch.OutOfMemoryError:
            pass  # once the frames that hold memory are gone, there is more
        give_back(f"measuring beside training: task {task.index} is measured on the CPU at its {when}")
        cpu = torch.device("cpu")
        return measured(_to(setup.state, cpu), _to(task, cpu), _to(pull, cpu))


def _write(
    setup: Setup, writer: RunWriter, task: int, when: str, measured: Measurement, more: dict[str, Column]
) -> None:
    steps = [s if s >= 0 else None for s in setup.state.diverged.tolist()]
    columns: dict[str, Column] = {
        **describe(setup),
        "updates": setup.state.steps.tolist(),
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
    who = {name: list(values) * epochs for name, values in list(describe(setup).items())[:5]}
    when = {"task": [task] * epochs * members, "epoch": [epoch for epoch in range(epochs) for _ in range(members)]}
    names = Accumulators.zeros(1).means()
    writer.write_epochs(task, who | when | {n: setup.curve[:, i].flatten().tolist() for i, n in enumerate(names)})


def describe(setup: Setup) -> dict[str, Column]:
    """Who each member is: every hyperparameter as a column.

    Args:
        setup: of the experiment.

    Returns:
        Column to `[M]` values.
    """
    e, members = setup.experiment, setup.group.members
    columns: dict[str, Column] = {
        "member": list(range(len(members))),
        "seed": [m.seed for m in members],
        "learning_rate": [m.learning_rate for m in members],
        "method": [m.method for m in members],
        "strength": [m.strength for m in members],
    }
    shared = {"dataset": e.dataset, "data_source": "embedded" if setup.embedded else "full", "reduction": e.reduction}
    for name, field in Experiment.__dataclass_fields__.items():
        if field.metadata["group"] in ("problem", "network", "optimizer") and name not in ("data_dir", "tasks"):
            value = getattr(e, name)
            shared[name] = "-".join(map(str, value)) if isinstance(value, tuple) else value
    shared["network"], shared["engine"] = setup.group.network.name, setup.engine.name
    columns |= {name: [value] * len(members) for name, value in shared.items() if value is not None}
    return columns | {name: getattr(setup.group.hyper, name).tolist() for name in MEMBER_HYPERPARAMETERS}


def _epoch_event(setup: Setup, task: int, epoch: int, done: Accumulators, seconds: float) -> EpochDone:
    e = setup.experiment
    counted = max(int(done.steps.sum()), 1)
    updates = (task * e.epochs + epoch + 1) * e.steps_per_epoch()
    loss, error = float(done.loss.sum()) / counted, float(done.error.sum()) / counted
    return EpochDone(task, epoch, updates, loss, error, _diverged(setup.state), seconds)


def _stopped(writer: RunWriter, task: int, epoch: int) -> Stopped:
    writer.write_progress({"task": task, "epoch": epoch, "stopped": True})
    return Stopped(task, epoch)


def _save(
    setup: Setup, writer: RunWriter, position: dict[str, int], at_start: Tensor, sums: Accumulators, expected: Tensor
) -> None:
    tensors = {f"state.{k}": v for k, v in setup.state.tensors().items()}
    tensors |= {f"sums.{k}": v for k, v in sums.tensors().items()}
    tensors |= {"task_start.params": at_start, "hessian.expected": expected}
    if setup.curve is not None:
        tensors["curve"] = setup.curve
    writer.save_checkpoint(tensors, position)


def _restore(setup: Setup, writer: RunWriter) -> tuple[dict[str, int], Tensor, Accumulators, Tensor]:
    """Brings the state to the run's last checkpoint; a new run gets its first.

    The last of the results, `[2, M]`, are the stable ranks expected at task start and end: those last measured.
    """
    members = len(setup.group.members)
    state, sums, expected = setup.state, Accumulators.zeros(members), torch.full((2, members), -1)
    found = writer.load_checkpoint()
    if found is None:
        position = {"task": 0, "epoch": 0}
        _save(setup, writer, position, state.params, sums, expected)
        return position, state.params.clone(), sums, expected
    tensors, position = found
    for name, tensor in state.tensors().items():
        tensor.copy_(tensors[f"state.{name}"])
    for name, tensor in sums.tensors().items():
        tensor.copy_(tensors[f"sums.{name}"])
    if setup.curve is not None:
        setup.curve.copy_(tensors["curve"])
    expected = tensors["hessian.expected"].clone()
    return position, tensors["task_start.params"].to(state.params.device, copy=True), sums, expected
