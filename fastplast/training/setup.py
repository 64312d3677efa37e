"""Everything that an experiment needs before it trains: data, members, a group, its engine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from fastplast.config import MEMBER_HYPERPARAMETERS, OWN, ConfigError, Experiment, is_path
from fastplast.config.rules import count_members
from fastplast.data import DATASETS, Dataset, load
from fastplast.engines import (
    Engine,
    Group,
    GroupState,
    Hooks,
    available_cores,
    build_group,
    choose_device,
    choose_engine,
    new_state,
)
from fastplast.machine.arithmetic import use_full_float32
from fastplast.machine.out_of_memory import release_and_warn
from fastplast.machine.threads import use_threads
from fastplast.measuring.hessian import check_block
from fastplast.measuring.measurement import Column
from fastplast.methods import Pull, shown_strength
from fastplast.networks import ModuleFactory, ModuleNetwork, build_network
from fastplast.problems import Problem, Task, build_problem
from fastplast.training.capacity import FEWEST_COPIES, check_memory, fitting

Holder = TypeVar("Holder", Task, GroupState, Pull)


@dataclass
class Setup:
    """An experiment ready to run; ``curve`` is `[epochs, metrics, M]` of the task so far, where it is asked for."""

    experiment: Experiment
    dataset: Dataset
    problem: Problem
    group: Group
    state: GroupState
    engine: Engine
    curve: Tensor | None = None

    @cached_property
    def hooks(self) -> Hooks:
        """What methods do beside the pull."""
        return Hooks(self.group, self.engine.device)

    @property
    def updates(self) -> int:
        """Updates of one member over the whole experiment."""
        e = self.experiment
        return (e.tasks or 0) * e.epochs * e.steps_per_epoch()


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
    use_full_float32()
    use_threads(e.threads or available_cores())
    device = choose_device(e)
    if device.index is not None:
        torch.cuda.set_device(device)  # where kernels are launched
    dataset = dataset or load(e.dataset, e.data_dir)
    check_memory(count_members(e), 8 * e.examples, "the rows of every member's examples")
    members = e.members()
    problem = build_problem(e, dataset, tuple(member.seed for member in members))
    if network is None:
        net = build_network(e, problem.shape, problem.num_classes)
    else:
        net = ModuleNetwork(network, problem.shape, problem.num_classes)
    if isinstance(net, ModuleNetwork):
        if e.overlap:
            raise ConfigError(
                "--overlap needs a built-in network: got a module, which may be different in training and while it is "
                "measured. Leave --overlap out."
            )
        net.check_training({e.batch_size, e.examples % e.batch_size or e.batch_size}, e.loss)
    check_block(net, e)
    group = build_group(e, net, members)
    check_memory(len(members), 4 * FEWEST_COPIES * group.layout.size, "the networks")
    curve = torch.full((e.epochs, 4, len(members)), torch.nan, dtype=torch.float64) if e.epoch_curves else None
    try:
        state = to_device(new_state(group), device)
        engine = choose_engine(e, group, state, device)
    except torch.OutOfMemoryError:
        raise ConfigError(_too_large(e, group, problem, device)) from None
    return Setup(e, dataset, problem, group, state, engine, curve)


def identity_columns(group: Group) -> dict[str, Column]:
    """What tells the members of a group apart: the hyperparameters of methods too, None of members of another.

    Args:
        group: of the experiment.

    Returns:
        Column to `[M]` values.
    """
    members, hyper = group.members, group.hyper
    names = dict.fromkeys(name for member in members for name in dict(member.options))
    columns: dict[str, Column] = {
        "member": list(range(len(members))),
        "seed": [m.seed for m in members],
        "learning_rate": hyper.learning_rate.tolist(),
        "method": [m.method for m in members],
        "strength": [shown_strength(member) for member in members],
    }
    return columns | {name: [dict(m.options).get(name) for m in members] for name in names}


def member_columns(setup: Setup) -> dict[str, Column]:
    """What describes each member: its identity, and every option and hyperparameter that results depend on.

    Args:
        setup: of the experiment.

    Returns:
        Column to `[M]` values.
    """
    e, members = setup.experiment, len(setup.group.members)
    shared: dict[str, Any] = {"dataset": None, "data_source": None, "reduction": e.reduction}
    for name, field in Experiment.__dataclass_fields__.items():
        if field.metadata["group"] in ("problem", "network", "optimizer") and name not in ("data_dir", "tasks"):
            value = getattr(e, name)
            if name in ("optimizer_reset", "new_classes", "drift_tasks") and value == field.default:
                continue  # which runs of older versions do not have
            shared[name] = "-".join(map(str, value)) if isinstance(value, tuple) else value
    shared |= {"dataset": data_name(setup), "data_source": _data_source(setup)}
    shared["network"], shared["engine"] = setup.group.network.name, setup.engine.name
    columns = identity_columns(setup.group)
    columns |= {name: [value] * members for name, value in shared.items() if value is not None}
    return columns | {name: getattr(setup.group.hyper, name).tolist() for name in MEMBER_HYPERPARAMETERS}


def data_name(setup: Setup) -> str:
    """What results call the data: as the experiment does, unless it names others than were passed."""
    name = setup.experiment.dataset or ""
    name = name if is_path(name) else setup.dataset.name
    return name.encode("utf-8", "backslashreplace").decode()  # a file's name may hold bytes that are none


def _data_source(setup: Setup) -> str:
    """Whether data are the named dataset, its embedded subset, or the user's own in its place."""
    dataset = setup.dataset
    if dataset.is_embedded:
        return "embedded"
    official = DATASETS.get(dataset.name)
    if dataset.name in OWN["dataset"]:
        return "own"
    is_other = official is not None and dataset.checksum != official.splits["train"].checksum
    return "own" if is_other or data_name(setup) != setup.experiment.dataset else "full"


def to_device(holder: Holder, device: torch.device) -> Holder:
    """A task, a state or a rule, with its tensors on a device."""
    tensors: dict[str, Any] = {n: value.to(device) for n, value in vars(holder).items() if isinstance(value, Tensor)}
    if isinstance(holder, GroupState):
        tensors["kept"] = {name: value.to(device) for name, value in holder.kept.items()}
    return dataclasses.replace(holder, **tensors)


def task_to_device(setup: Setup, task: Task) -> Task:
    """A task, with its tensors where the engine trains.

    Raises:
        ConfigError: if they do not fit there.
    """
    try:
        return to_device(task, setup.engine.device)
    except torch.OutOfMemoryError:
        pass
    release_and_warn("a task's data beside what was measured before: it is moved again")
    try:
        return to_device(task, setup.engine.device)
    except torch.OutOfMemoryError:
        text = _too_large(setup.experiment, setup.group, setup.problem, setup.engine.device)
        raise ConfigError(text) from None


def _too_large(e: Experiment, group: Group, problem: Problem, device: torch.device) -> str:
    """What to say when a group and its data do not fit on a GPU: how many members would."""
    engine = "cuda" if e.engine == "cuda" else "vmap"
    held = fitting(e, group, problem, engine, torch.cuda.mem_get_info(device)[1])
    return (
        f"members and their data must fit in GPU memory: got {len(group.members):,} members, of which it holds about "
        f"{held:,} with engine {engine}. Use fewer --seeds, or fastplast sweep: its batches fit."
    )
