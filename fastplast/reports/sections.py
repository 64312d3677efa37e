"""What the page says without a script, as its templates take it: state of the runs, what was run, definitions."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

from fastplast.drawing.settings import phrase
from fastplast.reports.curves import metric_words
from fastplast.reports.members import json_value, member_words, setting_labels
from fastplast.reports.reading import Part, ReportData, mean_over_tasks
from fastplast.stats.ranking import rank
from fastplast.text import duration

_MOST_ROWS = 200  # of a table that nobody reads to its end
_MOST_VALUES = 20  # of a setting


class Table(NamedTuple):
    """A table of texts and numbers.

    Attributes:
        heads: of the columns.
        rows: a value for each column.
        numbers: the columns that hold numbers.
    """

    heads: Sequence[str]
    rows: Sequence[Sequence[Any]]
    numbers: Collection[int] = ()


def overview(data: ReportData) -> str:
    """One line of what the page is about."""
    words = []
    for name in ("benchmark", "dataset", "network", "activation", "method"):
        if name in data.members:
            values = list(dict.fromkeys(phrase(name, value) for value in data.members[name].dropna()))
            words.append(", ".join(values) if len(values) <= 4 else f"{len(values)} values of {name}")
    counts = {"member": len(data.members), "setting": len(data.settings), "task": len(data.tasks)}
    return " · ".join([*words, *(f"{count:,} {name}{'s' * (count != 1)}" for name, count in counts.items())])


class Ranking(NamedTuple):
    """All settings by their mean error.

    Attributes:
        best: the first of them, in words.
        table: a row for each, best first.
    """

    best: str
    table: Table


def ranking(data: ReportData) -> Ranking | None:
    """Settings by their mean error over tasks and members, least first; those with a diverged member come last.

    Args:
        data: of the runs.

    Returns:
        The table; None if no error at task end was measured.
    """
    import numpy as np

    error = data.curves.get(("error", "end"))
    if error is None:
        return None
    diverged = np.isin(np.arange(len(error)), list(data.diverged))
    means = np.where(diverged, np.nan, mean_over_tasks(error))
    members = data.members[[]].assign(setting=0, mean_error=means, diverged=diverged)
    for number, rows in enumerate(data.rows):
        members.loc[list(rows), "setting"] = number
    labels = [setting["label"] for setting in setting_labels(data)]
    rows = []
    for place, row in enumerate(rank(members, ["setting"]).to_dict("records"), 1):
        mean, low, high = (
            f"{row[name]:.4f}" if row[name] == row[name] else "" for name in ("mean_error", "low", "high")
        )
        interval = f"[{low}, {high}]" if low else ""
        rows.append((place, labels[row["setting"]], mean, interval, row["n"], row["diverged"] or ""))
    _, label, mean, interval, n, _ = rows[0]
    best = f"{label}, {mean} {interval}".strip() + f", n = {n}" if mean else ""
    heads = ("", "setting", "mean error", "95% interval", "n", "diverged")
    return Ranking(best, Table(heads, rows, numbers=(0, 2, 3, 4, 5)))


def status(data: ReportData) -> dict[str, Any]:
    """What a reader must know before reading numbers: what is not finished, what diverged."""
    unfinished = [f"{part.name} ({_progress(part)})" for part in data.parts if not part.run.is_finished]
    states = {"not finished": unfinished, "begun, nothing measured yet": list(data.waiting)}
    return {
        "states": [
            (state, len(names), ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else ""))
            for state, names in states.items()
            if names
        ],
        "runs": len(data.parts) + len(data.waiting),
        "members": len(data.members),
        "diverged": len(data.diverged),
    }


def divergences(data: ReportData) -> Table:
    """Which member diverged, in which task, at which update; the first of them where there are many."""
    rows = [
        (member_words(data, row), where.task, "not stored" if where.update is None else f"{where.update:,}")
        for row, where in sorted(data.diverged.items())[:_MOST_ROWS]
    ]
    return Table(("member", "task", "update"), rows, numbers=(1, 2))


def settings(data: ReportData) -> dict[str, Table]:
    """Settings that differ between members, and those that do not.

    Args:
        data: of the runs.

    Returns:
        ``varying`` and ``constant``.
    """
    configs = [part.run.config for part in data.parts]
    constant, varying = [], []
    for name in dict.fromkeys(name for config in configs for name in config):
        if name == "member_list" or name in data.varying:
            continue
        values = [config.get(name) for config in configs]
        texts = list(dict.fromkeys("default" if value is None else _text(value) for value in values))
        more = "; …" * (len(texts) > _MOST_VALUES)
        (constant if len(texts) == 1 else varying).append((name, "; ".join(texts[:_MOST_VALUES]) + more))
    known = {name for name, _ in constant + varying}
    for name in data.members.columns:  # what the configuration leaves to the members
        if name not in (*known, *data.varying, "member", "part", "seed") and data.members[name].notna().any():
            texts = list(dict.fromkeys(str(json_value(value)) for value in data.members[name].dropna()))
            constant.append((name, "; ".join(texts[:_MOST_VALUES])))
    for name in data.varying:
        found = {json_value(value) for value in data.members[name]}
        ordered = sorted(found, key=lambda value: (isinstance(value, str), value is None, value or 0))
        varying.append((name, "; ".join("none" if value is None else _text(value) for value in ordered)))
    if "seed" in data.members:
        seeds = sorted(set(data.members["seed"]))
        few = len(seeds) <= 40
        words = "; ".join(map(str, seeds)) if few else f"{len(seeds)}, from {seeds[0]} to {seeds[-1]}"
        varying.append(("seed", words))
    return {"varying": Table(("setting", "values"), varying), "constant": Table(("setting", "value"), constant)}


def places(data: ReportData) -> dict[str, Any]:
    """Where and when the runs were made.

    Args:
        data: of the runs.

    Returns:
        ``runs``: a table; ``more``: how many runs there are if the table has not all, else 0; ``commands``, ``notes``
        and ``versions``: texts.
    """
    parts = data.parts[:_MOST_ROWS]
    commands, notes, versions = [], [], []
    for part in parts:
        env = part.run.env
        commands += [str(entry.get("command", "")) for entry in (env, *env.get("resumes", []))]
        notes += [f"{name}: {_text(value)}" for name, value in env.get("notes", {}).items()]
        versions.append(", ".join(f"{name} {version}" for name, version in env.get("versions", {}).items()))
    heads = ("run", "state", "started", "ended", "training", "measuring", "resumed", "fastplast", "machine")
    return {
        "runs": Table(heads, [_place(part) for part in parts], numbers=(4, 5, 6)),
        "more": len(data.parts) if len(data.parts) > _MOST_ROWS else 0,
        "commands": _distinct(commands),
        "notes": _distinct(notes),
        "versions": _distinct(versions),
    }


def _place(part: Part) -> tuple[Any, ...]:
    env = part.run.env
    hardware, resumes = env.get("hardware", {}), env.get("resumes", [])
    gpus = hardware.get("gpus") or []
    machine = [hardware.get("cpu"), f"{hardware.get('cores')} cores", *map(str, gpus), hardware.get("system")]
    commit = (env.get("commit") or "no commit")[:10]
    return (
        part.name,
        "finished" if env.get("finished") else f"not finished: {_progress(part)}",
        _time(env.get("started")),
        _time((resumes or [env])[-1].get("ended")),
        *_seconds(part),
        len(resumes),
        f"{env.get('fastplast', '')} {commit}{' with changes' if env.get('dirty') else ''}",
        ", ".join(map(str, filter(None, machine))),
    )


def solvers(data: ReportData) -> str:
    """How often each way to the Hessian's stable rank was taken; empty if none was."""
    return ", ".join(f"{name} {count:,}" for name, count in sorted(data.solvers.items()))


def correlation_table(found: Sequence[dict[str, Any]]) -> Table | None:
    """Correlations of explanations with error: a row each, a column for every activation.

    Args:
        found: from ``correlations``.

    Returns:
        The table; None if nothing was found.
    """
    if not found:
        return None
    activations = list(dict.fromkeys(entry["activation"] for entry in found))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for entry in found:
        cells.setdefault((entry["name"], entry["when"]), {})[entry["activation"]] = _correlation(entry)
    rows = [
        (f"{metric_words(name)['label']}, task {when}", *(own.get(activation, "") for activation in activations))
        for (name, when), own in cells.items()
    ]
    return Table(("explanation", *activations), rows, numbers=range(1, len(activations) + 1))


def _correlation(entry: dict[str, Any]) -> str:
    if entry["r"] != entry["r"]:
        return "error constant"
    ends = f" [{entry['low']:+.2f}, {entry['high']:+.2f}]" if entry["low"] == entry["low"] else ""
    return f"{entry['r']:+.2f}{ends}"


def definitions(data: ReportData) -> Table:
    """What every metric on the page means."""
    texts = dict(data.definitions)
    names = list(dict.fromkeys(name for name, _ in data.curves))
    if any(_definition_of(name, texts) is None for name in names):
        from fastplast.config import DEFINITIONS  # a run of an older version, or one written by hand

        texts = DEFINITIONS | texts
    rows = [("mean error", "", "end", "error at task end, mean over tasks: the plasticity of a member as one number")]
    for name in names:
        times = " and ".join(when for when in ("start", "end") if (name, when) in data.curves)
        text = _definition_of(name, texts) or "not defined in the results"
        rows.append((metric_words(name)["label"], name, times, text))
    return Table(("metric", "column", "measured at task", "definition"), rows)


def _definition_of(name: str, texts: dict[str, str]) -> str | None:
    """A metric's definition; that of ``feature_srank_fc3`` stands under ``feature_srank_{layer}``."""
    if name in texts:
        return texts[name]
    for pattern, text in texts.items():
        if "{layer}" in pattern and re.fullmatch(re.escape(pattern).replace(r"\{layer\}", "(.+)"), name):
            return text
    return None


def _progress(part: Part) -> str:
    done = len(list((part.run.path / "metrics").glob("part-*-end.parquet")))
    planned = part.run.config.get("tasks")
    return f"{done} of {planned} tasks" if planned else f"{done} tasks"


def _seconds(part: Part) -> list[str]:
    timings = part.run.timings()
    names = ("train_seconds", "measure_seconds")
    return [duration(float(timings[name].sum()), decimals=True) if name in timings else "" for name in names]


def _time(text: str | None) -> str:
    return (text or "").replace("T", " ").replace("+00:00", " UTC")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else str(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _distinct(texts: Iterable[str]) -> list[str]:
    return [text for text in dict.fromkeys(texts) if text]
