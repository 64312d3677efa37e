"""Everything that an experiment needs before it trains: data, members, a group, its engine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TypeVar, cast

import torch
from torch import Tensor

from fastplast.config import MEMBER_HYPERPARAMETERS, ConfigError, Experiment
from fastplast.data import Dataset, load
from fastplast.engines import (
    Engine,
    Group,
    GroupState,
    available_cores,
    build_group,
    choose_device,
    choose_engine,
    new_state,
)
from fastplast.machine.out_of_memory import give_back
from fastplast.measuring.group import Column, check_block
from fastplast.methods import Pull
from fastplast.networks import ModuleFactory, ModuleNetwork, build_network
from fastplast.problems import Problem, Task, build_problem

Held = TypeVar("Held", Task, GroupState, Pull)


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
        if e.overlap:
            raise ConfigError(
                "--overlap needs a built-in network: got a module, which may be different in training and while it is "
                "measured. Leave --overlap out."
            )
    check_block(net, e)
    group = build_group(e, net, members)
    curve = torch.full((e.epochs, 4, len(members)), torch.nan, dtype=torch.float64) if e.epoch_curves else None
    try:
        state = moved(new_state(group), device)
        engine = choose_engine(e, group, state, device)
    except torch.OutOfMemoryError:
        raise ConfigError(_too_large(e, group, problem, device)) from None
    return Setup(e, dataset.source, dataset.is_embedded, problem, group, state, engine, curve)


def identify(setup: Setup) -> dict[str, Column]:
    """The number of each member, its seed, and what members of an ensemble differ in first of all.

    Args:
        setup: of the experiment.

    Returns:
        Column to `[M]` values.
    """
    members = setup.group.members
    return {
        "member": list(range(len(members))),
        "seed": [m.seed for m in members],
        "learning_rate": [m.learning_rate for m in members],
        "method": [m.method for m in members],
        "strength": [m.strength for m in members],
    }


def describe(setup: Setup) -> dict[str, Column]:
    """Who each member is: every hyperparameter as a column, those of ``identify`` first.

    Args:
        setup: of the experiment.

    Returns:
        Column to `[M]` values.
    """
    e, columns = setup.experiment, identify(setup)
    shared = {"dataset": e.dataset, "data_source": "embedded" if setup.embedded else "full", "reduction": e.reduction}
    for name, field in Experiment.__dataclass_fields__.items():
        if field.metadata["group"] in ("problem", "network", "optimizer") and name not in ("data_dir", "tasks"):
            value = getattr(e, name)
            shared[name] = "-".join(map(str, value)) if isinstance(value, tuple) else value
    shared["network"], shared["engine"] = setup.group.network.name, setup.engine.name
    columns |= {name: [value] * len(setup.group.members) for name, value in shared.items() if value is not None}
    return columns | {name: getattr(setup.group.hyper, name).tolist() for name in MEMBER_HYPERPARAMETERS}


def moved(holder: Held, device: torch.device) -> Held:
    """A task, a state or a rule, with its tensors on a device."""
    tensors = {name: value.to(device) for name, value in vars(holder).items() if isinstance(value, Tensor)}
    return dataclasses.replace(holder, **tensors)


def on_device(setup: Setup, task: Task) -> Task:
    """A task, with its tensors where the engine trains.

    Raises:
        ConfigError: if they do not fit there.
    """
    try:
        return moved(task, setup.engine.device)
    except torch.OutOfMemoryError:
        pass
    give_back("a task's data beside what was measured before: it is moved again")
    try:
        return moved(task, setup.engine.device)
    except torch.OutOfMemoryError:
        text = _too_large(setup.experiment, setup.group, setup.problem, setup.engine.device)
        raise ConfigError(text) from None


def _too_large(e: Experiment, group: Group, problem: Problem, device: torch.device) -> str:
    """What to say when a group and its data do not fit on a GPU: how many members would."""
    from fastplast.training.capacity import fitting

    engine = "cuda" if e.engine == "cuda" else "vmap"
    sizes = cast(Setup, SimpleNamespace(experiment=e, group=group, problem=problem))  # there may be no engine yet
    held = fitting(sizes, engine, torch.cuda.mem_get_info(device)[1])
    return (
        f"members and their data must fit in GPU memory: got {len(group.members):,} members, of which it holds about "
        f"{held:,} with engine {engine}. Use fewer --seeds, or fastplast sweep: its batches fit."
    )
