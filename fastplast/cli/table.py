"""``fastplast table``: settings ranked by their mean error, or by another metric, as text, Markdown, LaTeX or CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastplast.config import ConfigError, option_fields
from fastplast.text import closest, hang, recognize

if TYPE_CHECKING:
    import pandas

    from fastplast.stats import Score

_ESCAPED = {"\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{",
            "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}  # fmt: skip


def table_of(
    paths: Sequence[str],
    by: Sequence[str],
    is_best: bool,
    kind: str,
    metric: str = "error",
    best_is: str | None = None,
    width: int | None = None,
) -> str:
    """The table of runs or sweeps.

    Args:
        paths: of runs, sweeps or files of results.
        by: hyperparameters whose every combination has a best setting of its own.
        is_best: whether only the best are wanted.
        kind: ``text``, ``markdown``, ``latex`` or ``csv``.
        metric: by whose mean over tasks settings are ranked, with ``@start`` or ``@end`` for a time.
        best_is: whether its lowest or its highest values are the best; as its definition says if None.
        width: that a text may have, if there is a bound; columns are left out until it fits.

    Returns:
        The table.

    Raises:
        ConfigError: if `by` names what does not vary, the metric was not measured, or a setting
            lacks a seed that others have.
    """
    import pandas as pd

    from fastplast.drawing.settings import NOT_SETTINGS
    from fastplast.results import open_each
    from fastplast.runs.tables import described
    from fastplast.stats import best, member_means, rank

    tables = [results.metrics().assign(run=i) for i, results in enumerate(open_each(paths))]
    fields = list(dict.fromkeys(name for one in tables for name in described(one)))
    table = pd.concat(tables, ignore_index=True)
    members, score = _scored(member_means(table, {}, described=fields), table, metric, best_is)
    columns = [name for name in fields if name not in NOT_SETTINGS]
    chosen = []
    for name in by:
        found = recognize(name, columns)
        if found is None:
            raise ConfigError(f"--by must be a hyperparameter: got {name!r}. {closest(name, columns)}")
        chosen.append(found)
    settings = list(dict.fromkeys([*chosen, *_varying(members, columns)]))
    try:
        table, note = (
            best(members, settings, chosen, score) if is_best else (rank(members, settings, chosen, score), "")
        )
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if kind == "csv":
        return table.to_csv(index=False).rstrip("\n")
    cells, marks = _cells(table, settings, score, kind), table["best"].tolist()
    return _as_text(cells, marks, note, width) if kind == "text" else _WRITERS[kind](cells, marks, note)


def _varying(members: pandas.DataFrame, names: Sequence[str]) -> list[str]:
    """The hyperparameters that have more than one value."""
    of_method = {"strength", *(name for name, _, _ in option_fields())}  # which others of one value have not
    return [
        name
        for name in names
        if (members[name].dropna() if name in of_method else members[name]).map(repr).nunique() > 1
    ]


def _scored(
    members: pandas.DataFrame, table: pandas.DataFrame, metric: str, best_is: str | None
) -> tuple[pandas.DataFrame, Score]:
    """The members with their mean over tasks of a metric, and how it ranks them."""
    from pandas.api.types import is_numeric_dtype

    from fastplast.drawing.columns import better_of, find_column, measured_at, range_of
    from fastplast.runs.tables import measured
    from fastplast.stats import Score

    numeric = [name for name in measured(table) if name != "run" and is_numeric_dtype(table[name])]
    known = {name: at for name in numeric if (at := measured_at(table, name))}
    column, axis = find_column(metric, known, option="metric")
    ends = range_of(column, members, table[column].to_numpy(float))
    score = Score(f"mean_{column}", *ends, better_of(column, axis, best_is) == "highest")
    if column != "error" or axis.when != "end":
        means = table[table["when"] == axis.when].groupby(["run", "member"])[column].mean()
        members[score.column] = [means.get(who, math.nan) for who in zip(members["run"], members["member"])]
        members.loc[members["diverged"].astype(bool), score.column] = math.nan
    return members, score


def _cells(table: pandas.DataFrame, settings: Sequence[str], score: Score, kind: str) -> list[list[str]]:
    """The header and a row for each setting, as text."""
    has_diverged = bool(table["diverged"].any())
    header = [*(name.replace("_", " ") for name in settings), score.column.replace("_", " "), "95 % interval", "n"]
    rows = [header + ["diverged"] * has_diverged]
    for row in table.to_dict("records"):
        mean, low, high = (_digits(row[name], score) for name in (score.column, "low", "high"))
        rows.append([*(_word(row[name]) for name in settings), mean, f"[{low}, {high}]" * bool(low), str(row["n"])])
        rows[-1] += [str(row["diverged"])] * has_diverged
    return rows if kind != "latex" else [[_escape(cell) for cell in row] for row in rows]


def _digits(value: float, score: Score) -> str:
    """A number with four decimals where it is a fraction, and with four digits otherwise; empty where there is none."""
    return f"{value:{'.4f' if score.most == 1 else '.4g'}}" if math.isfinite(value) else ""


def _word(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _escape(text: str) -> str:
    return "".join(_ESCAPED.get(letter, letter) for letter in text)


_SPARED = ("diverged", "n", "95 % interval")  # columns that a text does without, in this order


def _as_text(rows: list[list[str]], is_best: list[bool], note: str, width: int | None) -> str:
    columns = [*zip(*rows), ("", *("best" if one else "" for one in is_best))]
    for name in _SPARED:
        if width is not None and sum(max(map(len, column)) + 2 for column in columns) - 2 > width:
            columns = [column for column in columns if column[0] != name]
    padded = [[f"{cell:{max(map(len, column))}}" for cell in column] for column in columns]
    text = "\n".join([*("  ".join(row).rstrip() for row in zip(*padded)), *([note] if note else [])])
    return text if width is None else hang(text, width, indent=2)


def _as_markdown(rows: list[list[str]], is_best: list[bool], note: str) -> str:
    marked = [[f"**{cell}**" if cell else cell for cell in row] if one else row for row, one in zip(rows[1:], is_best)]
    lines = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in [rows[0], *marked]]
    lines.insert(1, "|" + " --- |" * len(rows[0]))
    return "\n".join([*lines, *(["", note] if note else [])])


def _as_latex(rows: list[list[str]], is_best: list[bool], note: str) -> str:
    marked = [[rf"\textbf{{{cell}}}" if cell else cell for cell in row] if one else row
              for row, one in zip(rows[1:], is_best)]  # fmt: skip
    body = [" & ".join(row) + r" \\" for row in marked]
    head = [rf"\begin{{tabular}}{{{'l' * len(rows[0])}}}", r"\toprule", " & ".join(rows[0]) + r" \\", r"\midrule"]
    end = [r"\bottomrule", r"\end{tabular}", *([f"% {note}"] if note else [])]
    return "\n".join(["% needs the package booktabs", *head, *body, *end])


_WRITERS = {"markdown": _as_markdown, "latex": _as_latex}
