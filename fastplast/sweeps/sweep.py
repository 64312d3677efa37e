"""A sweep on disk, for reading: its shards are ordinary runs, and reading a sweep is reading all of them."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from fastplast.config import ConfigError, Experiment, Member
from fastplast.runs.files import StoreError
from fastplast.runs.paths import SHARDS, is_sweep, shard_paths
from fastplast.runs.reading import check_config
from fastplast.runs.results import Results
from fastplast.runs.run import Run, no_epochs
from fastplast.runs.tables import (
    as_format,
    check_format,
    concatenate,
    members_of,
    merge_shards,
    rows_where,
    with_id,
    with_members,
)
from fastplast.sweeps.grid import Cell, as_group, course_of, digest, group_digest

if TYPE_CHECKING:
    import numpy
    import pandas
    from torch import nn


class Sweep(Results):
    """All shards of one or several sweep directories as one table; every property and method reads the files anew.

    Directories may come from several machines. A member that several shards hold is read once, from the shard that got
    furthest; members are numbered by their hyperparameters and seed, and the table is the same, whatever shards they
    lie in.

    Attributes:
        path: the first of the directories, where figures go.
        paths: the sweep directories.

    Raises:
        FileNotFoundError: if a path is no sweep directory.
    """

    def __init__(self, *paths: str | os.PathLike) -> None:
        self.paths = tuple(Path(path).expanduser() for path in paths)
        for path in self.paths:
            if not is_sweep(path):
                raise FileNotFoundError(f"path must be a sweep directory, with {SHARDS}/ in it: got {path}.")
        self.path = self.paths[0]

    @property
    def shards(self) -> tuple[Run, ...]:
        """The runs that the sweep is made of, by name; unfinished ones among them."""
        found = [path for root in self.paths for path in shard_paths(root)]
        return tuple(Run(path) for path in sorted(found, key=lambda path: (path.name, str(path))))

    @property
    def is_finished(self) -> bool:
        """Whether every shard is finished."""
        return all(shard.is_finished for shard in self.shards)

    @property
    def env(self) -> dict[str, Any]:
        """Where the first shard was trained."""
        return self._measured_shards()[0].env

    @property
    def definitions(self) -> dict[str, str]:
        """Metric to definition."""
        return {name: text for shard in self.shards for name, text in shard.definitions.items()}

    @property
    def units(self) -> dict[str, str]:
        """Metric to unit, of metrics on request that have one."""
        return {name: unit for shard in self.shards for name, unit in shard.units.items()}

    @property
    def members(self) -> pandas.DataFrame:
        """One row per member: its ``id``, number, seed and hyperparameters; numbers change as a sweep is extended."""
        tables = []
        for shard, numbers in self.chosen():
            table, ids = shard.metrics("arrow"), read_ids(shard)
            column = [ids[number] for number in table["member"].to_pylist()]
            tables.append((with_id(table, column), numbers))
        return members_of(merge_shards(tables))

    def _table(self) -> Any:
        return merge_shards([(shard.metrics("arrow"), numbers) for shard, numbers in self.chosen()])

    def epochs(self, format: str = "pandas") -> Any:
        """Curves within tasks, as ``Run.epochs`` has them, of the shards that hold some.

        Args:
            format: as of ``metrics``.

        Returns:
            A table of that library, sorted by task, epoch, member; members have the numbers that ``metrics`` gives.

        Raises:
            ValueError: if the format is unknown.
            StoreError: if no shard holds any.
        """
        check_format(format)
        tables = []
        for shard, numbers in self._number_members():
            if shard.has_epochs:
                table = shard.epochs("arrow")
                table = rows_where(table, [number in numbers for number in table["member"].to_pylist()])
                column = [numbers[number] for number in table["member"].to_pylist()]
                tables.append(with_members(table, column))
        if not tables:
            raise StoreError(no_epochs(self.path))
        by = [(name, "ascending") for name in ("task", "epoch", "member")]
        return as_format(concatenate(tables).sort_by(by), format)

    @overload
    def spectra(self, task: None = None, when: str = "start") -> pandas.DataFrame: ...

    @overload
    def spectra(self, task: int, when: str = "start") -> list[numpy.ndarray]: ...

    def spectra(self, task: int | None = None, when: str = "start") -> Any:
        """Eigenvalues of the Hessian block, as ``Run.spectra`` has them.

        Args:
            task: number of the task, from 0; None for what there is.
            when: ``"start"`` or ``"end"``.

        Returns:
            Of a task, one fp32 vector per member, in the order of ``members``; lengths may differ. Without one, the
            table of what there is, as of ``Run.spectra``.

        Raises:
            StoreError: if a shard did not store them; the text lists what it did.
        """
        if task is None:
            import pandas

            tables = []
            for shard, numbers in self._number_members():
                listed = shard.spectra()
                own = listed["member"].map(numbers)
                tables.append(listed.assign(member=own)[own.notna()].astype({"member": int}))
            order = ["task", "when", "member"]
            return pandas.concat(tables).sort_values(order, ascending=[True, False, True], ignore_index=True)
        found = {}
        for shard, numbers in self._number_members():
            vectors = shard.spectra(task, when)
            found |= {number: vectors[own] for own, number in numbers.items()}
        return [found[number] for number in sorted(found)]

    def module(self, member: int, task: int | None = None, when: str = "end", **options: Any) -> nn.Module:
        """A member as an ordinary module with its weights, as ``Run.module`` gives it.

        Args:
            member: its number in ``members``.
            task: number of the task, from 0; the last checkpoint if None.
            when: ``"start"`` or ``"end"`` of the task.
            options: ``epoch`` and ``network``.

        Returns:
            The module.

        Raises:
            ConfigError: if there is no such member.
        """
        for shard, numbers in self._number_members():
            for own, number in numbers.items():
                if number == member:
                    return shard.module(own, task, when, **options)
        raise ConfigError(f"member must be one of the sweep: got {member}. `members` lists them.")

    def _number_members(self) -> list[tuple[Run, dict[int, int]]]:
        """Shards with the numbers of their members, in the shard's counting and in the sweep's."""
        members = self.members
        number = dict(zip(members["id"], map(int, members["member"])))
        renumbered = []
        for shard, numbers in self.chosen():
            ids = read_ids(shard)
            renumbered.append((shard, {own: number[ids[own]] for own in numbers}))
        return renumbered

    def timings(self) -> pandas.DataFrame:
        """Seconds and rates of all shards, with the name of the shard."""
        import pandas

        return pandas.concat([shard.timings().assign(shard=shard.path.name) for shard in self.shards])

    def _measured_shards(self) -> list[Run]:
        shards = [shard for shard in self.shards if _count_parts(shard)]
        if not shards:
            raise StoreError(f"{self.path} holds no metrics yet: no task of any shard has been measured.")
        return shards

    def chosen(self) -> list[tuple[Run, list[int]]]:
        """Shards with the numbers of the members that are read from them.

        Returns:
            Shards in which something was measured; every member of the sweep is in exactly one.

        Raises:
            StoreError: if no shard has been measured yet, or shards were trained on different data.
        """
        self._check_data()
        shards = sorted(self._measured_shards(), key=_count_parts, reverse=True)  # stable: of equals, the first by name
        taken: set[tuple] = set()
        chosen = []
        for shard in shards:
            # Of members that differ in how long they run and in what is measured, the one that got furthest.
            keys = [(_curve_digest(cell.group), cell.member) for cell in _read_cells(shard)]
            numbers = [i for i, key in enumerate(keys) if key not in taken]
            taken.update(keys)
            if numbers:
                chosen.append((shard, numbers))
        return chosen

    def _check_data(self) -> None:
        # Refuses shards, of several machines for example, that were trained on different data of one name.
        first: dict[str, Run] = {}
        for shard in self.shards:
            if found := shard.identity.get("data"):
                other = first.setdefault(shard.config["dataset"], shard)
                if (was := other.identity["data"]) != found:
                    raise StoreError(
                        f"shards of a sweep must have the same data: got SHA-256 {found[:12]} in {shard.path}, "
                        f"{was[:12]} in {other.path}. Read them apart."
                    )

    def __repr__(self) -> str:
        shards = self.shards
        done = sum(shard.is_finished for shard in shards)
        return f"Sweep({', '.join(repr(str(p)) for p in self.paths)}, {len(shards)} shards, {done} finished)"


def _read_cells(shard: Run, with_metrics: bool = False) -> list[Cell]:
    """The members of a shard, in the order of their numbers, as a grid that holds them would have them.

    Without the metrics on request they are read where those of the user's own are not registered.
    """
    config, where = shard.config, str(shard.path / "config.json")
    check_config(config, shard.path / "config.json")
    if not with_metrics:
        config.pop("metrics", None)
    listed = config.pop("member_list", None)
    experiment = Experiment.from_dict(config, where)
    group = as_group(experiment)  # which knows no member: one may have a method of its author's
    members = experiment.members() if listed is None else [Member(**values) for values in listed]
    return [Cell(group, member) for member in members]


def read_ids(shard: Run) -> list[str]:
    """What identifies the members of a shard among all members of all sweeps, however these are divided or extended.

    Args:
        shard: its run.

    Returns:
        12 hexadecimal digits for each member, of all that moves its curves, but not of how many tasks it runs.
    """
    return [digest([_curve_digest(cell.group), cell.member.to_dict()]) for cell in _read_cells(shard)]


def read_courses(shard: Run) -> list[str]:
    """``course_of`` every member of a shard."""
    return [course_of(cell) for cell in _read_cells(shard, with_metrics=True)]


def _curve_digest(group: Experiment) -> str:
    """Digest of what moves the curves of a group."""
    fields = Experiment.__dataclass_fields__
    probes = {name: field.default for name, field in fields.items() if field.metadata["group"] == "probes"}
    return group_digest(dataclasses.replace(group, tasks=1, **probes))


def _count_parts(shard: Run) -> int:
    return len(list((shard.path / "metrics").glob("part-*.parquet")))
