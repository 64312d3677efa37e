"""A status for scripts and for people: JSON, or lines of text."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastplast.runs.ledger import Planned, read_failures, read_plan
from fastplast.runs.status import Status, median
from fastplast.text import duration, size


def as_json(found: Status | list[Status], path: str) -> dict[str, Any]:
    """The same for scripts.

    Args:
        found: from ``status``.
        path: what was asked for.

    Returns:
        JSON values: the fields of a run; of a sweep its ``path``, ``shards``, and ``total``, to which members of
        planned shards count; how many of these are ``not_begun``, those that ``failed`` with their errors, and the
        ``rate`` and ``seconds_left`` of all that train.
    """
    if isinstance(found, Status):
        return _fields(found)
    shards, waiting = [_fields(shard) for shard in found], _not_begun(found, path)
    return {"path": path, "shards": shards, "total": _total(found, waiting), **_ledger(found, path)}


def _fields(found: Status) -> dict[str, Any]:
    return {name: value for name, value in asdict(found).items() if name != "sranks"}


def as_text(found: Status | list[Status], path: str, width: int | None = None) -> str:
    """The same for people.

    Args:
        found: from ``status``.
        path: what was asked for.
        width: that a table may have, if there is a bound; columns are left out, empty ones first, until it fits.

    Returns:
        Lines: what is known of a run, or a table of shards and their total.
    """
    return _run_lines(found) if isinstance(found, Status) else _sweep_lines(found, path, width)


def _run_lines(s: Status) -> str:
    go_on = f"; go on with: fastplast resume {s.path}" if s.state in ("stopped", "died") else ""
    done = f"all {s.tasks} tasks"
    if s.state != "finished":
        done = f"task {s.task + 1} of {s.tasks}, {s.epoch} of {s.epochs} epochs of it; {s.share:.1%} of all"
    left = None if s.seconds_left is None or s.state == "finished" else duration(s.seconds_left)
    rows = {
        "state": s.state + (f" ({s.holder})" if s.holder else "") + go_on,
        "progress": done,
        "rate": None if s.rate is None else f"{s.rate:,.0f} updates/s",
        "left": left,
        "error": None if s.error is None else f"{s.error:.4f} at the end of task {(s.error_task or 0) + 1}",
        "srank": None
        if s.srank is None
        else f"{s.srank:.1f}, median over members, at the start of task {(s.srank_task or 0) + 1}",
        "diverged": f"{s.diverged} of {s.members} members",
        "disk": size(s.bytes),
        "place": str(Path(s.path).resolve()),
    }
    return "\n".join(f"{name:9} {text}" for name, text in rows.items() if text is not None)


_SPARED = ("disk", "srank", "members")  # columns of a table that does without, in this order


def _sweep_lines(shards: list[Status], path: str, width: int | None) -> str:
    waiting = _not_begun(shards, path)
    total = _total(shards, waiting)
    header = ("shard", "state", "members", "task", "error", "srank", "diverged", "left", "disk")
    rows = [header, *(_cells(Path(s.path).name, asdict(s)) for s in shards)]
    if waiting:
        more = f"{len(waiting):,} more shard{'s' * (len(waiting) > 1)}"
        rows.append((more, "not begun", f"{_members(waiting):,}", *[""] * 6))
    rows.append(_cells("total", total))
    columns = list(zip(*rows))
    empty = [column[0] for column in columns if not any(column[1:])]
    for name in (*empty, *_SPARED):
        if width is not None and sum(max(map(len, column)) + 2 for column in columns) - 2 > width:
            columns = [column for column in columns if column[0] != name]
    padded = [[f"{cell:{max(map(len, column))}}" for cell in column] for column in columns]
    lines = ["  ".join(row).rstrip() for row in zip(*padded)]
    counts = total["states"] | ({"not begun": len(waiting)} if waiting else {})
    states = ", ".join(f"{count:,} {state}" for state, count in counts.items()) or "none planned"
    number = sum(counts.values())
    lines.append(f"{number:,} shard{'s' * (number != 1)}: {states}; {Path(path).resolve()}")
    more = _ledger(shards, path)
    if more["rate"]:
        rate, left = f"{more['rate']:,.0f} updates/s", duration(more["seconds_left"])
        lines.append(f"all that train: {rate}, {left} left at this rate")
    lines += [f"failed: {name}: {error}" for name, error in more["failed"].items()]
    return "\n".join(lines)


def _not_begun(shards: list[Status], path: str) -> list[Planned]:
    """The shards that are planned and have no run yet."""
    begun = {Path(s.path).name for s in shards}
    return [plan for name, plan in read_plan(Path(path).expanduser()).items() if name not in begun]


def _members(waiting: list[Planned]) -> int:
    return sum(plan.members for plan in waiting)


def _ledger(shards: list[Status], path: str) -> dict[str, Any]:
    """What the files of the sweep say beside those of its shards, and the rate of all that train."""
    directory = Path(path).expanduser()
    begun, planned = {Path(s.path).name: s for s in shards}, read_plan(directory)
    rate = sum(s.rate or 0.0 for s in shards if s.state == "training")
    left = sum(plan.updates * (1 - begun[name].share if name in begun else 1) for name, plan in planned.items()
               if name not in begun or begun[name].state != "finished")  # fmt: skip
    return {
        "not_begun": len(planned.keys() - begun.keys()),
        "failed": {name: failure.error for name, failure in read_failures(directory).items()},
        "rate": rate or None,
        "seconds_left": left / rate if rate else None,
    }


def _cells(name: str, s: dict[str, Any]) -> tuple[str, ...]:
    task = f"{s['task'] + (s.get('state') != 'total')}/{s['tasks']}"
    left = duration(s["seconds_left"]) if s["seconds_left"] else ""
    error = "" if s["error"] is None else f"{s['error']:.4f}"
    srank = "" if s["srank"] is None else f"{s['srank']:.1f}"
    state = "" if s["state"] == "total" else s["state"]
    return name, state, f"{s['members']:,}", task, error, srank, str(s["diverged"]), left, size(s["bytes"])


def _total(shards: list[Status], waiting: list[Planned]) -> dict[str, Any]:
    """Sums, the mean error and the median srank over members that have one; time left as if one process did all."""
    rate = median([s.rate for s in shards])
    states = [s.state for s in shards]
    left = [s.seconds_left for s in shards]
    left += [plan.updates / rate if rate else None for plan in waiting]
    errors = [(s.error, s.members) for s in shards if s.error is not None]
    counted = sum(members for _, members in errors)
    return {
        "state": "total",
        "states": {state: states.count(state) for state in sorted(set(states))},
        "members": sum(s.members for s in shards) + _members(waiting),
        "diverged": sum(s.diverged for s in shards),
        "task": sum(s.tasks if s.state == "finished" else s.task for s in shards),
        "tasks": sum(s.tasks for s in shards),
        "error": sum(error * members for error, members in errors) / counted if errors else None,
        "srank": median([srank for s in shards for srank in s.sranks]),
        "seconds_left": None if None in left else sum(value for value in left if value is not None),
        "bytes": sum(s.bytes for s in shards),
    }
