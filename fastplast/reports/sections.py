"""What the page says without a script: state of the runs, what was run, correlations, definitions. HTML, escaped."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from fastplast.drawing.settings import phrase
from fastplast.reports.curves import describe
from fastplast.reports.members import plain, who
from fastplast.reports.reading import Part, Results
from fastplast.text import duration

_SHOWN = 200  # rows of a table that nobody reads to its end


def escape(value: Any) -> str:
    """Text for HTML, in element content and in quoted attributes.

    Args:
        value: anything.

    Returns:
        Its text, without a character that means something in HTML.
    """
    return html.escape(str(value), quote=True)


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], numbers: Sequence[int] = ()) -> str:
    """A table in a frame that scrolls by itself where it is wider than the screen.

    Args:
        heads: of the columns.
        rows: texts, which are escaped here.
        numbers: the columns that hold numbers.

    Returns:
        HTML.
    """
    kinds = [' class="number"' if i in numbers else "" for i in range(len(heads))]
    head = "".join(f'<th scope="col"{kind}>{escape(text)}</th>' for kind, text in zip(kinds, heads))
    lines = ("".join(f"<td{kind}>{escape(value)}</td>" for kind, value in zip(kinds, row)) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def status(results: Results) -> str:
    """What a reader must know before reading numbers: what is not finished, what diverged."""
    notes = []
    for text, names in (("not finished", _unfinished(results)), ("begun, nothing measured yet", list(results.waiting))):
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            notes.append(f"<strong>{len(names)} of {_runs(results)} {text}</strong>: {escape(shown)}.")
    if notes:
        notes.append("This page shows what had been measured when it was made.")
    if results.diverged:
        count = len(results.diverged)
        notes.append(
            f"<strong>{count} of {len(results.members)} members diverged</strong> and "
            f'{"is" if count == 1 else "are"} left out from then on: <a href="#diverged">which and when</a>.'
        )
    return f'<div class="note" role="note"><p>{"</p><p>".join(notes)}</p></div>' if notes else ""


def overview(results: Results) -> str:
    """One line of what this is about."""
    words = []
    for name in ("benchmark", "dataset", "network", "activation", "method"):
        if name in results.members:
            values = list(dict.fromkeys(phrase(name, value) for value in results.members[name].dropna()))
            words.append(", ".join(values) if len(values) <= 4 else f"{len(values)} values of {name}")
    count, tasks = len(results.members), len(results.tasks)
    words.append(f"{count:,} member{'s' * (count != 1)}")
    words.append(f"{len(results.settings):,} setting{'s' * (len(results.settings) != 1)}")
    words.append(f"{tasks:,} task{'s' * (tasks != 1)}")
    return f'<p class="overview">{" · ".join(map(escape, words))}</p>'


def divergences(results: Results) -> str:
    """Which member diverged, in which task, at which update."""
    if not results.diverged:
        return "<p>No member diverged.</p>"
    rows = [(who(results, row), where.task, "not stored" if where.update is None else f"{where.update:,}")
            for row, where in sorted(results.diverged.items())]  # fmt: skip
    more = f"<p>The first {_SHOWN} of {len(rows)}; the table of members has all.</p>" if len(rows) > _SHOWN else ""
    text = (
        "<p>A member whose loss or update is not finite is frozen before that update, and left out from there on.</p>"
    )
    return text + table(("member", "task", "update"), rows[:_SHOWN], numbers=(1, 2)) + more


def what_was_run(results: Results) -> str:
    """Settings, data, versions, hardware, commands, times, notes."""
    configs = [part.run.config for part in results.parts]
    names = list(dict.fromkeys(name for config in configs for name in config if name != "member_list"))
    constant, varying = [], []
    for name in names:
        values = [config.get(name) for config in configs]
        texts = list(dict.fromkeys("default" if value is None else _text(value) for value in values))
        if name in results.varying:
            continue
        (constant if len(texts) == 1 else varying).append((name, "; ".join(texts[:20]) + "; …" * (len(texts) > 20)))
    known = {name for name, _ in constant + varying}
    for name in results.members.columns:  # what the configuration leaves to the members
        if name not in (*known, *results.varying, "member", "part", "seed") and results.members[name].notna().any():
            texts = list(dict.fromkeys(str(plain(value)) for value in results.members[name].dropna()))
            constant.append((name, "; ".join(texts[:20])))
    for name in results.varying:
        values = sorted(
            {plain(v) for v in results.members[name]}, key=lambda v: (isinstance(v, str), v is None, v or 0)
        )
        varying.append((name, "; ".join("none" if value is None else _text(value) for value in values)))
    if "seed" in results.members:
        seeds = sorted(set(results.members["seed"]))
        varying.append(
            (
                "seed",
                "; ".join(map(str, seeds)) if len(seeds) <= 40 else f"{len(seeds)}, from {seeds[0]} to {seeds[-1]}",
            )
        )
    parts = [
        "<h3>Differs between members</h3>" + table(("setting", "values"), varying),
        "<details><summary>The same for all members: "
        f"{len(constant)} settings</summary>{table(('setting', 'value'), constant)}</details>",
        "<h3>Where and when</h3>" + _places(results),
    ]
    if results.solvers:
        counts = ", ".join(f"{escape(name)} {count:,}" for name, count in sorted(results.solvers.items()))
        parts.append(f"<p>Stable ranks of Hessians were computed by: {counts}.</p>")
    return "\n".join(parts)


def _places(results: Results) -> str:
    rows, commands, notes = [], [], []
    for part in results.parts[:_SHOWN]:
        env = part.run.env
        commit = env.get("commit")
        hardware = env.get("hardware", {})
        gpus = hardware.get("gpus") or []
        machine = [hardware.get("cpu"), f"{hardware.get('cores')} cores", *map(str, gpus), hardware.get("system")]
        resumes = env.get("resumes", [])
        rows.append((
            part.name,
            "finished" if env.get("finished") else f"not finished: {_progress(part)}",
            _time(env.get("started")),
            _time((resumes or [env])[-1].get("ended")),
            *_seconds(part),
            len(resumes),
            f"{env.get('fastplast', '')} {(commit or 'no commit')[:10]}{' with changes' if env.get('dirty') else ''}",
            ", ".join(map(str, filter(None, machine))),
        ))  # fmt: skip
        commands += [str(entry.get("command", "")) for entry in [env, *resumes]]
        notes += [f"{name}: {_text(value)}" for name, value in env.get("notes", {}).items()]
    versions = [
        ", ".join(f"{k} {v}" for k, v in part.run.env.get("versions", {}).items()) for part in results.parts[:_SHOWN]
    ]
    heads = ("run", "state", "started", "ended", "training", "measuring", "resumed", "fastplast", "machine")
    more = f"<p>The first {_SHOWN} of {len(results.parts)} runs.</p>" if len(results.parts) > _SHOWN else ""

    def listed(title: str, texts: Sequence[str]) -> str:
        items = "".join(f"<li><code>{escape(text)}</code></li>" for text in dict.fromkeys(texts) if text)
        return f"<h3>{title}</h3><ul>{items}</ul>" if items else ""

    return (
        table(heads, rows, numbers=(4, 5, 6)) + more
        + listed("Command", commands) + listed("Data and notes", notes) + listed("Versions", versions)
    )  # fmt: skip


def correlation_table(found: Sequence[dict[str, Any]]) -> str:
    """Correlations of explanations with error: a row each, a column for every activation.

    Args:
        found: from ``correlations``.

    Returns:
        HTML.
    """
    if not found:
        return "<p>Nothing to correlate: fewer than three measurements, or no error at task end.</p>"
    activations = list(dict.fromkeys(entry["activation"] for entry in found))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for entry in found:
        cells.setdefault((entry["name"], entry["when"]), {})[entry["activation"]] = _correlation(entry)
    rows = [
        (f"{describe(name)['label']}, task {when}", *(own.get(activation, "") for activation in activations))
        for (name, when), own in cells.items()
    ]
    text = (
        "<p>Pearson's correlation of each explanation with the error at the end of the same task, over members and "
        "tasks; in brackets its 95% interval by resampling members.</p>"
    )
    return text + table(("explanation", *activations), rows, numbers=range(1, len(activations) + 1))


def _correlation(entry: dict[str, Any]) -> str:
    if entry["r"] != entry["r"]:
        return "error constant"
    ends = f" [{entry['low']:+.2f}, {entry['high']:+.2f}]" if entry["low"] == entry["low"] else ""
    return f"{entry['r']:+.2f}{ends}"


def definitions(results: Results) -> str:
    """What every metric on the page means."""
    texts = dict(results.definitions)
    names = list(dict.fromkeys(name for name, _ in results.curves))
    if any(definition_of(name, texts) is None for name in names):
        from fastplast.measuring.definitions import DEFINITIONS  # a run of an older version, or one written by hand

        texts = DEFINITIONS | texts
    rows = []
    for name in names:
        times = " and ".join(when for when in ("start", "end") if (name, when) in results.curves)
        text = definition_of(name, texts) or "not defined in the results"
        rows.append((describe(name)["label"], name, times, text))
    head = ("metric", "column", "measured at task", "definition")
    extra = [("J_K", "", "end", "error at task end, mean over tasks: the plasticity of a member as one number")]
    return table(head, extra + rows)


def definition_of(name: str, texts: dict[str, str]) -> str | None:
    """A metric's definition; that of ``feature_srank_fc3`` stands under ``feature_srank_{layer}``.

    Args:
        name: of the column.
        texts: name to definition.

    Returns:
        The text, or None.
    """
    if name in texts:
        return texts[name]
    for pattern, text in texts.items():
        if "{layer}" in pattern and re.fullmatch(re.escape(pattern).replace(r"\{layer\}", "(.+)"), name):
            return text
    return None


def _unfinished(results: Results) -> list[str]:
    return [f"{part.name} ({_progress(part)})" for part in results.parts if not part.run.is_finished]


def _progress(part: Part) -> str:
    done = len(list((part.run.path / "metrics").glob("part-*-end.parquet")))
    planned = part.run.config.get("tasks")
    return f"{done} of {planned} tasks" if planned else f"{done} tasks"


def _runs(results: Results) -> str:
    count = len(results.parts) + len(results.waiting)
    return f"{count} run{'s' * (count != 1)}"


def _seconds(part: Part) -> tuple[str, str]:
    timings = part.run.timings()
    return tuple(
        duration(float(timings[name].sum()), decimals=True) if name in timings else ""
        for name in ("train_seconds", "measure_seconds")
    )  # type: ignore[return-value]


def _time(text: str | None) -> str:
    return (text or "").replace("T", " ").replace("+00:00", " UTC")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else str(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
