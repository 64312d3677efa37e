"""The table of members: what tells them apart and what became of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastplast.drawing.settings import phrase
from fastplast.reports.looks import looks
from fastplast.reports.reading import ReportData, mean_over_tasks


def members(data: ReportData) -> dict[str, Any]:
    """The table that the page sorts, filters, and draws sensitivity from.

    Args:
        data: of the runs.

    Returns:
        ``columns``: ``key``, ``label``, ``help`` and ``kind`` (``"hyperparameter"``, ``"who"`` or ``"result"``);
        ``rows``: a value for each column, None where there is none; ``setting``: of each row.
    """
    table, columns, values = data.members, [], []

    def add(key: str, label: str, kind: str, text: str, column: list[Any]) -> None:
        columns.append({"key": key, "label": label, "kind": kind, "help": text})
        values.append([json_value(value) for value in column])

    if any(part.ids for part in data.parts):
        text = "identifies it in its sweep, as Sweep.members has it, however the sweep is extended"
        add("member", "member", "who", text, table["id"].tolist())
    else:
        add("member", "member", "who", "its number in its run", table["member"].tolist())
    if "seed" in table:
        add("seed", "seed", "who", "of the member's random streams", table["seed"].tolist())
    for name in data.varying:
        add(name, name.replace("_", " "), "hyperparameter", "", table[name].tolist())
    for key, label, text, column in _outcomes(data):
        add(key, label, "result", text, column.tolist())
    stopped = [data.diverged.get(row) for row in range(len(table))]
    if data.diverged:
        add("diverged", "diverged in task", "result", "the member is left out from this task on",
            [where.task if where else None for where in stopped])  # fmt: skip
    if len(data.parts) > 1:
        add("part", "run", "who", "directory of the run or shard", [data.parts[i].name for i in table["part"]])
    setting = np.empty(len(table), int)
    for s, rows in enumerate(data.rows):
        setting[list(rows)] = s
    return {"columns": columns, "rows": [list(row) for row in zip(*values)], "setting": setting.tolist()}


def json_value(value: Any) -> Any:
    """A value of JSON: None for what is absent or not finite, NumPy's numbers as Python's.

    Args:
        value: from a table.

    Returns:
        None, bool, int, float or str.
    """
    if hasattr(value, "item"):
        value = value.item()
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return None
    return value if isinstance(value, (bool, int, float)) else str(value)


def setting_labels(data: ReportData) -> list[dict[str, Any]]:
    """The settings as the legend has them.

    Args:
        data: of the runs.

    Returns:
        ``label``, ``n``, ``diverged`` and what is in ``Look`` of each.
    """
    return [
        {
            "label": setting.label or ("all members" if len(rows) > 1 else "the member"),
            "n": len(rows),
            "diverged": sum(row in data.diverged for row in rows),
            **look._asdict(),
        }
        for setting, rows, look in zip(data.settings, data.rows, looks(data)[1])
    ]


def member_words(data: ReportData, row: int) -> str:
    """A member in words.

    Args:
        data: of the runs.
        row: of the member.

    Returns:
        For example ``tanh, seed 3 (member 3 of mnist_shuffle-none)``.
    """
    entry = data.members.iloc[row]
    words = [phrase(name, json_value(entry[name])) for name in data.varying if json_value(entry[name]) is not None]
    words += [f"seed {entry['seed']}"] if "seed" in entry else []
    return f"{', '.join(words)} (member {entry['id']} of {data.parts[int(entry['part'])].name})".strip()


def _outcomes(data: ReportData) -> list[tuple[str, str, str, np.ndarray]]:
    found = []
    error = data.curves.get(("error", "end"))
    if error is not None:
        found.append(("j", "mean error", "error at task end, mean over tasks", mean_over_tasks(error)))
        found.append(("final", "last error", "error at the end of the last task it finished", _ends(error)[1]))
    test = data.curves.get(("test_error", "end"))
    if test is not None:
        found.append(("test", "mean test error", "test error at task end, mean over tasks", mean_over_tasks(test)))
    times = [when for when in ("start", "end") if ("hessian_srank", when) in data.curves]
    if times:
        first, last = _ends(data.curves["hessian_srank", times[0]])
        found.append(("first_srank", "first srank", f"Hessian stable rank at task {times[0]}, first measured", first))
        found.append(("last_srank", "last srank", f"Hessian stable rank at task {times[0]}, last measured", last))
    return found


def _ends(curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last value of each row; NaN where it has none."""
    present, rows = np.isfinite(curve), np.arange(len(curve))
    return curve[rows, present.argmax(1)], curve[rows, curve.shape[1] - 1 - present[:, ::-1].argmax(1)]
