"""The plan of a sweep: which members are there, which are missing, and the shards in which they will be trained."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastplast.config import ConfigError, Experiment, Member
from fastplast.data import Dataset, load
from fastplast.machine.memory import free_bytes
from fastplast.methods import METHODS
from fastplast.networks import ModuleFactory, module_name
from fastplast.runs.paths import SHARDS, shard_paths
from fastplast.runs.run import Run
from fastplast.sweeps.grid import Cell, Grid, digest, expand_by_course, group_digest, machine_of
from fastplast.sweeps.sweep import read_courses
from fastplast.training.capacity import bytes_per_member
from fastplast.training.identity import check_data
from fastplast.training.setup import Setup, prepare

MOST_OF_A_BATCH = 512  # members, where neither their number nor their memory is given: far more than cores need


@dataclass(frozen=True)
class Shard:
    """Members of one group that are trained as one batch, as one run.

    Attributes:
        experiment: with the members one by one, and ``out``.
        is_begun: whether its run exists and is to be resumed.
    """

    experiment: Experiment
    is_begun: bool

    @property
    def path(self) -> Path:
        """Its run directory."""
        return Path(self.experiment.out or ".")


@dataclass(frozen=True)
class GroupPlan:
    """A group as the plan sees it.

    Attributes:
        experiment: what its members share.
        setup: ready to run, with one member.
        members: how many the slice has.
        missing: how many of them have no shard yet.
        member_bytes: memory that each takes.
        capacity: members that fit at once.
    """

    experiment: Experiment
    setup: Setup
    members: int
    missing: int
    member_bytes: int
    capacity: int


@dataclass(frozen=True)
class SweepPlan:
    """What a sweep will do.

    Attributes:
        directory: of the sweep.
        members: of the whole grid.
        in_slice: members of this slice.
        finished: members of this slice in finished shards.
        others: members that the directory holds and the grid does not name.
        groups: of this slice.
        shards: to resume and to train, in this order.
        budget: bytes that a shard may take.
        datasets: what was loaded, by name.
        grid: what was asked for.
        network: a factory of modules, in place of a built-in network.
    """

    directory: Path
    members: int
    in_slice: int
    finished: int
    others: int
    groups: tuple[GroupPlan, ...]
    shards: tuple[Shard, ...]
    budget: int
    datasets: dict[str, Dataset]
    grid: Grid
    network: ModuleFactory | None = None


def parse_slice(text: str) -> tuple[int, int]:
    """Reads ``--shard i/n``.

    Args:
        text: for example ``0/3``.

    Returns:
        i and n.

    Raises:
        ConfigError: if it is not two numbers with 0 <= i < n.
    """
    first, _, second = text.partition("/")
    if not (first.isdigit() and second.isdigit() and int(first) < int(second)):
        raise ConfigError(f"--shard must be i/n with 0 <= i < n: got {text}. Say for example 0/3, 1/3 and 2/3.")
    return int(first), int(second)


def make_plan(
    grid: Grid,
    directory: str | os.PathLike,
    *,
    part: tuple[int, int] = (0, 1),
    memory: float | None = None,
    batch: int | None = None,
    network: ModuleFactory | None = None,
    dataset: Dataset | None = None,
) -> SweepPlan:
    """Plans a sweep, checking everything that can be checked before anything runs. Writes nothing.

    Which members form a shard depends on the grid and on `batch` or `memory` alone: whoever plans again finds the same.
    A slice takes every n-th member, so that each has its share of every setting. What a shard of the directory has,
    finished or not, is not planned again; an unfinished one is resumed by the slice that its first member is in. A
    shard of fewer tasks goes on to more where the grid asks for as many more of all its members.

    Args:
        grid: crosses.
        directory: of the sweep.
        part: i and n of the slice.
        memory: GiB that a shard may take.
        batch: most members of a shard; without it as many as `memory` holds, or else 512.
        network: a factory of modules, in place of a built-in network.
        dataset: images in memory, in place of those that the grid names.

    Returns:
        The plan.

    Raises:
        ConfigError: if the grid is bad, or a member or the batch asked for does not fit.
    """
    directory, machine = _place(directory, memory, batch), machine_of(grid)
    by_course = expand_by_course(grid := _with_network(grid, network))
    keys, cells = list(by_course), list(by_course.values())
    in_slice = {key for i, key in enumerate(keys) if i % part[1] == part[0]}
    wanted = {key: cell.group.tasks or 0 for key, cell in zip(keys, cells)}
    begun, held, finished = _find_begun(directory, wanted, in_slice)
    datasets = {} if dataset is None else {cell.group.dataset: dataset for cell in cells}
    shards, groups, budget = [Shard(one, True) for one in begun], [], 0
    for listed in _by_group(keys, cells, in_slice, machine):
        group, members = dataclasses.replace(listed[0][1].group, **machine), [cell.member for _, cell in listed]
        missing = [cell.member for key, cell in listed if held.get(key, 0) < wanted[key]]
        planned, budget = _plan_group(group, network, members, len(missing), datasets, memory, batch)
        groups.append(planned)
        shards += [_new_shard(group, members, directory) for members in _split(missing, planned.capacity)]
    _check_data(directory, datasets)
    return SweepPlan(
        directory,
        members=len(cells),
        in_slice=len(in_slice),
        finished=sum(finished.get(key, 0) >= wanted[key] for key in in_slice),
        others=len(held.keys() - wanted.keys()),
        groups=tuple(groups),
        shards=tuple(shards),
        budget=budget,
        datasets=datasets,
        grid=grid,
        network=network,
    )


def _place(directory: str | os.PathLike, memory: float | None, batch: int | None) -> Path:
    # The directory of the sweep; refuses one of something else, and bounds that nothing fits.
    directory = Path(directory).expanduser()
    for name, value in (("--memory", memory), ("--batch", batch)):
        if value is not None and not value > 0:
            raise ConfigError(f"{name} must be positive: got {value}.")
    if directory.exists() and not (directory / SHARDS).is_dir() and any(directory.iterdir()):
        raise ConfigError(f"--out must be a sweep, or a new or empty directory: got {directory}. Choose another --out.")
    return directory


def _by_group(
    keys: list[str], cells: list[Cell], in_slice: set[str], machine: dict[str, Any]
) -> Iterable[list[tuple[str, Cell]]]:
    """The members of a slice with their keys, by group and by whether kernels train them: a batch has one engine."""
    found: dict[tuple[str, bool], list[tuple[str, Cell]]] = {}
    chooses_engine = machine.get("engine", "auto") == "auto"
    groups = {id(cell.group): cell.group for cell in cells}  # few, which many cells share
    digests = {number: group_digest(group) for number, group in groups.items()}
    for key, cell in zip(keys, cells):
        if key in in_slice:
            needs_vmap = chooses_engine and METHODS[cell.member.method].acts_within_updates
            found.setdefault((digests[id(cell.group)], needs_vmap), []).append((key, cell))
    return found.values()


def _with_network(grid: Grid, network: ModuleFactory | None) -> Grid:
    # A grid that names the module; without one, a grid must name none.
    given = [name for cross in grid for name in [cross.values.get("network")] if name is not None]
    if network is None:
        modules = [name for name in given if str(name).startswith("module:")]
        if modules:
            raise ConfigError(
                f"--network {modules[0]} is a module of its author's: use fastplast.sweep(..., network=...)."
            )
        return grid
    name = module_name(network)
    if any(other != name for other in given):
        raise ConfigError(f"network must be given once: got {given[0]} in the grid and a function. Drop one of them.")
    return [cross._replace(values={**cross.values, "network": name}) for cross in grid]


def _check_data(directory: Path, datasets: dict[str, Dataset]) -> None:
    """Refuses to extend a sweep with other data than its shards have."""
    identities = {name: dataset.identity for name, dataset in datasets.items()}
    for path in shard_paths(directory):
        run = Run(path)
        if (name := run.config["dataset"]) in identities:
            check_data(identities[name], run.identity, path)


def _find_begun(
    directory: Path, wanted: dict[str, int], in_slice: set[str]
) -> tuple[list[Experiment], dict[str, int], dict[str, int]]:
    """Shards of the directory that this slice must resume; the tasks of members that all will have and have.

    Args:
        directory: of the sweep.
        wanted: of the whole grid, ``course_of`` each member to its tasks.
        in_slice: those of the slice.

    Returns:
        Experiments to resume, to their number of tasks; members that shards hold to their tasks; the finished of them.
    """
    shards = [(run, read_courses(run), int(run.config["tasks"])) for run in map(Run, shard_paths(directory))]
    resume, held, finished = [], {}, {}
    for run, courses, tasks in shards:
        for found in (held, finished) if run.is_finished else (held,):
            found |= {key: max(tasks, found.get(key, 0)) for key in courses}
    for run, courses, tasks in shards:
        asked = {wanted.get(key, 0) for key in courses}
        goal = (
            max(tasks, *asked) if len(asked) == 1 and any(held[key] < wanted.get(key, 0) for key in courses) else tasks
        )
        held |= {key: max(goal, held[key]) for key in courses}
        is_own = next((key in in_slice for key in courses if 0 < wanted.get(key, 0) <= goal), False)
        if is_own and not (run.is_finished and goal == tasks):
            experiment = Experiment.from_dict(run.config, str(run.path / "config.json"))
            resume.append(dataclasses.replace(experiment, out=str(run.path), tasks=goal))
    return resume, held, finished


def _plan_group(
    group: Experiment,
    network: ModuleFactory | None,
    members: list[Member],
    missing: int,
    datasets: dict[str, Dataset],
    memory: float | None,
    batch: int | None,
) -> tuple[GroupPlan, int]:
    if group.dataset not in datasets:
        datasets[group.dataset] = load(group.dataset, group.data_dir)
    dataset = datasets[group.dataset]
    setup = prepare(dataclasses.replace(group, member_list=tuple(members[:1])), network, dataset)
    engine = setup.engine
    member_bytes = bytes_per_member(
        setup.experiment, setup.group, setup.problem, engine.name, engine.device.type == "cuda"
    )
    budget = int(memory * 2**30) if memory is not None else free_bytes(engine.device)
    fitting = max((budget - dataset.images.nbytes) // member_bytes, 0)
    wanted = batch or (fitting if memory is not None else MOST_OF_A_BATCH)
    largest = min(wanted, len(members))
    what = f"--batch {batch}" if batch else f"a batch of {largest:,} members"
    for count, name in ((1, "one member"), (largest, what)):
        if fitting < count:
            need = (member_bytes * count + dataset.images.nbytes) / 2**30
            raise ConfigError(
                f"{name} of {setup.group.network.name} must fit in memory: it takes {need:,.2f} GiB of "
                f"{budget / 2**30:,.2f}. "
                + (f"Say --batch {fitting:,}, or less; u" if fitting else "U")
                + "se a smaller network or batch, or a machine with more memory."
            )
    return GroupPlan(group, setup, len(members), missing, member_bytes, min(wanted, fitting)), budget


def halves_of(shard: Shard, directory: Path) -> tuple[Shard, Shard] | None:
    """Two shards in place of one.

    Args:
        shard: not begun, or to be begun anew.
        directory: of the sweep.

    Returns:
        Both, each with its share of every setting; None if the shard has one member.
    """
    members = list(shard.experiment.members())
    if len(members) < 2:
        return None
    first, second = (_new_shard(shard.experiment, members[i::2], directory) for i in range(2))
    return first, second


def _split(members: list[Member], capacity: int) -> Iterable[list[Member]]:
    """As few parts as fit, of even size, each with its share of every setting."""
    parts = math.ceil(len(members) / capacity)
    return (members[i::parts] for i in range(parts))


def _new_shard(group: Experiment, members: list[Member], directory: Path) -> Shard:
    content: dict[str, Any] = {"group": group_digest(group), "members": [member.to_dict() for member in members]}
    name = f"{str(group.network).replace(':', '-')}-{group.activation}-{digest(content)}"
    return Shard(group.with_checked_members(members, str(directory / SHARDS / name)), is_begun=False)
