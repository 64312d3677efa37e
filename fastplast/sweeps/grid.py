"""A grid: fields with several values, crossed; a union of crosses; every cell of it checked before anything runs.

A cell is one member and the group it belongs to. Members of a group may differ in seed, step size, method, strength and
the optimizer's hyperparameters; whatever else differs makes another group.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

from fastplast.config import (
    ENGINE_OF,
    MACHINE_FIELDS,
    MEMBER_FIELDS,
    MEMBER_HYPERPARAMETERS,
    TAKES_STRENGTH,
    ConfigError,
    Experiment,
    Member,
    check_effects,
    flag,
    option_fields,
)
from fastplast.config.errors import shown
from fastplast.config.fields import as_known, as_plain, is_whole
from fastplast.config.rules import MOST_MEMBERS
from fastplast.sweeps.grid_file import Section, read_grid_file
from fastplast.text import closest

ONE_VALUE = ("data_dir", "seed_start", *MACHINE_FIELDS)  # for the whole sweep
_LISTS = ("widths", "channels", "metrics")  # whose one value is a list
_FIELDS = [name for name in Experiment.__dataclass_fields__ if name not in ("member_list", "options", "out")]


class Cell(NamedTuple):
    """A member and its group.

    Attributes:
        group: what members of the group share, resolved; its own member fields are the defaults.
        member: one of them.
    """

    group: Experiment
    member: Member


Grid = Sequence[Section]


def read_grid(path: str | Path | None = None, flags: Mapping[str, Any] | None = None) -> Grid:
    """Brings a grid file and flags together.

    Args:
        path: a TOML file; None for flags alone.
        flags: field to value or list of values; each wins over the file, in every cross.

    Returns:
        The crosses, each with the shared fields in it.

    Raises:
        ConfigError: if a field is unknown or not one that a cross may set.
    """
    known = [*_FIELDS, *_options()]
    shared, crosses = read_grid_file(path) if path is not None else (Section({}, {}, ""), [])
    typed = Section({name: as_plain(value) for name, value in (flags or {}).items()}, {}, "")
    for section in (shared, *crosses, typed):
        for name in section.values:
            if name not in known:
                place = f"{section.places[name]}: " if name in section.places else ""
                raise ConfigError(f"{place}grid has an unknown key: got {shown(name)}. {closest(name, known)}")
    for cross in crosses:
        for name in cross.values:
            if name in MACHINE_FIELDS:
                raise ConfigError(f"{cross.places[name]}: {name} is of the whole sweep. Put it above the crosses.")
    return [
        Section(
            shared.values | cross.values | typed.values,
            {k: v for k, v in (shared.places | cross.places).items() if k not in typed.values},
            cross.place,
        )
        for cross in crosses or [Section({}, {}, shared.place)]
    ]


def grid_of(values: Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> Grid:
    """A grid from Python.

    Args:
        values: field to value or list of values, or several such crosses.

    Returns:
        The crosses.

    Raises:
        ConfigError: if a field is unknown, or there is no cross.
    """
    listed: list[Any] = [values] if isinstance(values, Mapping) else list(values)
    if not listed:
        raise ConfigError("grid must hold at least one cross: got none.")
    return [cross for one in listed for cross in read_grid(None, one)]


def machine_of(grid: Grid) -> dict[str, Any]:
    """Engine, device, threads and the like, which move no curve.

    Args:
        grid: its crosses.

    Returns:
        Field to value, of those that are given.

    Raises:
        ConfigError: if crosses disagree.
    """
    found: dict[str, Any] = {}
    for cross in grid:
        for name in MACHINE_FIELDS:
            if name in cross.values and found.setdefault(name, cross.values[name]) != cross.values[name]:
                raise ConfigError(f"{flag(name)} is of the whole sweep: got another value in each cross.")
    return found


def expand(grid: Grid) -> list[Cell]:
    """Every member of a grid, once, with the most tasks that are asked of it; seeds vary fastest.

    Args:
        grid: its crosses.

    Returns:
        The cells.
    """
    return list(expand_by_course(grid).values())


def expand_by_course(grid: Grid) -> dict[str, Cell]:
    """Every member of a grid, as of ``expand``, by what it is.

    Args:
        grid: its crosses.

    Returns:
        ``course_of`` each to the cell.

    Raises:
        ConfigError: if a cross is empty or contradicts itself, or the grid has too many members; with file and line
            where there is one.
    """
    crosses = [{name: _values(cross, name) for name in cross.values} for cross in grid]
    count = sum(_count(values) for values in crosses)
    if count > MOST_MEMBERS:
        raise ConfigError(f"a grid must have at most {MOST_MEMBERS:,} members: got {count:,}. Use fewer values.")
    cells: dict[str, Cell] = {}
    for cross, values in zip(grid, crosses):
        group, prefix = None, ""  # cells of one group come together, and share its digest
        for cell in _expand_cross(cross, values):
            if cell.group is not group:
                group, prefix = cell.group, group_digest(cell.group, "tasks")
            known = cells.setdefault(course := course_of(cell, prefix), cell)
            if (known.group.tasks or 0) < (cell.group.tasks or 0):  # of which the shorter one is the beginning
                cells[course] = cell
    return cells


def course_of(cell: Cell, prefix: str = "") -> str:
    """What a member is, however many tasks it has: a run of fewer is the beginning of one of more.

    Args:
        cell: the member and its group.
        prefix: the digest of the group without the number of tasks, where it is known already.

    Returns:
        As of ``key_of``, without the number of tasks.
    """
    return f"{prefix or group_digest(cell.group, 'tasks')}-{digest(cell.member.to_dict())}"


def key_of(cell: Cell) -> str:
    """What a member is, as a digest: everything that moves its curve or chooses what is measured, and nothing else.

    Args:
        cell: the member and its group.

    Returns:
        The digest of the group and that of the member, hexadecimal.
    """
    return f"{group_digest(cell.group)}-{digest(cell.member.to_dict())}"


def group_digest(group: Experiment, *more: str) -> str:
    """Digest of what members of a group share.

    Args:
        group: resolved; its machine and member fields do not count.
        more: fields that do not count either.

    Returns:
        12 hexadecimal digits.
    """
    left_out = {*more, *MACHINE_FIELDS, *MEMBER_FIELDS, *MEMBER_HYPERPARAMETERS, "member_list", "data_dir"}
    return digest({name: value for name, value in group.to_dict().items() if name not in left_out})


def digest(value: Any) -> str:
    """SHA-256 of JSON values, whatever the order of their keys.

    Args:
        value: what to digest.

    Returns:
        The first 12 hexadecimal digits.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def as_group(experiment: Experiment) -> Experiment:
    """What the members of an experiment share.

    Args:
        experiment: of a shard, or of a cell by itself.

    Returns:
        The experiment, resolved, with every field that a member or a machine has at its default; but the engine stays
        where they share a setting of it.
    """
    reset = {*MEMBER_FIELDS, *MEMBER_HYPERPARAMETERS, *MACHINE_FIELDS}
    if any(getattr(experiment, name) for name in ENGINE_OF):
        reset.remove("engine")
    defaults = {name: Experiment.__dataclass_fields__[name].default for name in reset}
    return dataclasses.replace(experiment, member_list=None, **defaults).resolved()


def _values(cross: Section, name: str) -> tuple[Any, ...]:
    # The values of a field, as a tuple even of one.
    value, place = cross.values[name], f"{cross.places[name]}: " if name in cross.places else ""
    if isinstance(value, Mapping):
        raise ConfigError(f"{place}{flag(name)} must be a value or a list of values: got a table.")
    if name == "seeds" or name in ONE_VALUE:
        if isinstance(value, (list, tuple)) and name in ONE_VALUE:
            raise ConfigError(f"{place}{flag(name)} must be one value for the whole grid: got {shown(value)}.")
        values = (tuple(value) if isinstance(value, list) else value,)
    elif name in _LISTS and isinstance(value, (list, tuple)) and not any(isinstance(v, (list, tuple)) for v in value):
        values = (tuple(value),)
    else:
        values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    values = tuple(tuple(v) if isinstance(v, list) else as_known(name, v) for v in values)
    if not values or values == ((),):
        raise ConfigError(f"{place}{flag(name)} must have at least one value: got none.")
    try:
        is_repeated = len(set(values)) < len(values)
    except TypeError:  # a table in a list, or a list in one of its lists
        raise ConfigError(f"{place}{flag(name)} must be a value or a list of values: got {shown(value)}.") from None
    if is_repeated:
        raise ConfigError(f"{place}{flag(name)} must not repeat a value: got {shown(list(values))}.")
    return values


def _count(values: dict[str, tuple[Any, ...]]) -> int:
    seeds = values.get("seeds", (Experiment.__dataclass_fields__["seeds"].default,))[0]
    number = seeds if is_whole(seeds) else len(seeds) if isinstance(seeds, tuple) else 1
    return number * prod(len(v) for name, v in values.items() if name != "seeds")


def _expand_cross(cross: Section, values: dict[str, tuple[Any, ...]]) -> Iterator[Cell]:
    _check_strengths(cross, values)
    options = _options()
    shared = [n for n in values if n not in (*MEMBER_FIELDS, *MEMBER_HYPERPARAMETERS, *MACHINE_FIELDS, *options)]
    own = [n for n in values if n in ("learning_rate", *MEMBER_HYPERPARAMETERS)]
    seeds = {n: values[n][0] for n in ("seeds", "seed_start") if n in values}
    machine = {n: values[n][0] for n in MACHINE_FIELDS if n in values}
    for combination in product(*(values[n] for n in shared)):
        common = dict(zip(shared, combination))
        group: Experiment | None = None
        for method, strength in _methods(values):
            names = [n for n in values if options.get(n) == method]
            for numbers, chosen in product(product(*(values[n] for n in own)), product(*(values[n] for n in names))):
                setting = dict(zip(own, numbers)) | {"method": method, "strength": strength}
                setting["options"] = dict(zip(names, chosen))
                alone = _checked(cross, common | setting | seeds | machine)
                group = group or as_group(alone)
                yield from (Cell(group, member) for member in _members(alone))


def _methods(values: dict[str, tuple[Any, ...]]) -> Iterator[tuple[str, float | None]]:
    """Methods with their strengths; one that takes none has one."""
    for method in values.get("method", ("none",)):
        for strength in values.get("strength", (None,)) if TAKES_STRENGTH.get(method, True) else (None,):
            yield method, strength


def _options() -> dict[str, str]:
    """Fields that are hyperparameters of a method, and the method."""
    return {name: method for name, method, _ in option_fields()}


def _check_strengths(cross: Section, values: dict[str, tuple[Any, ...]]) -> None:
    methods = values.get("method", ("none",))
    named = ", ".join(shown(method).strip("'") for method in methods)
    for name, method in _options().items():
        if name in values and method not in methods:
            place = f"{cross.places[name]}: " if name in cross.places else ""
            raise ConfigError(
                f"{place}{flag(name)} belongs to --method {method}: got it with {named}. Add the method, or drop it."
            )
    if "strength" in values and not any(TAKES_STRENGTH.get(method, True) for method in methods):
        place = f"{cross.places['strength']}: " if "strength" in cross.places else ""
        raise ConfigError(
            f"{place}--strength needs a --method that takes one: got {shown(list(values['strength']))} with "
            f"{named}. Add a method, or drop the strengths."
        )


def _checked(cross: Section, values: dict[str, Any]) -> Experiment:
    # One setting as an experiment by itself.
    try:
        experiment = Experiment(**values).resolved()
        check_effects(experiment)
        return experiment
    except ConfigError as error:
        places = [cross.places[name] for name in error.fields if name in cross.places]
        place = (places or [cross.place])[0]
        raise ConfigError(f"{place}: {error}" if place else str(error)) from None


def _members(alone: Experiment) -> Iterator[Member]:
    """Members of a single setting; what is at its default is left to the group, so that each has one form."""
    own = {n: float(getattr(alone, n)) for n in MEMBER_HYPERPARAMETERS}
    own = {n: value for n, value in own.items() if value != Experiment.__dataclass_fields__[n].default}
    for member in alone.members():
        changes = own | {n: float(getattr(member, n)) for n in ("learning_rate", "strength")}
        is_so = all(getattr(member, n) is value for n, value in changes.items())  # as of all seeds of most grids
        yield member if is_so else dataclasses.replace(member, **changes)
