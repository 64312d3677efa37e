"""Metrics over tasks as the page draws them: mean and 95% band of settings, and as many members as a file can hold."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastplast.drawing.columns import axis_of, range_of
from fastplast.reports.looks import looks
from fastplast.reports.packing import pack
from fastplast.reports.reading import ReportData
from fastplast.runs.run import WHENS
from fastplast.stats import mean_interval

MOST_VALUES = 2_600_000  # of all curves: 7 MB in base64
MOST_TASKS = 500  # more than a chart has pixels for
_GROUPS = {
    "Error and loss": ("error", "loss", "online_error", "online_loss", "test_error", "test_loss", "penalty"),
    "Curvature": ("hessian_",),
    "Features": ("feature_", "activation_entropy", "dormant_fraction", "dead_fraction"),
    "Weights": ("weight_", "init_distance_"),
    "Updates": ("update_", "displacement_"),
}
_OTHER = "Other"


def curves(data: ReportData) -> dict[str, Any]:
    """Everything that the charts over tasks draw.

    Args:
        data: of the runs.

    Returns:
        ``tasks``: their numbers; ``settings``: those whose curves are there; ``lines``: the rows of members whose
        curves are there; ``metrics``: name, label, unit, group, ``ends`` of what is possible, and for each probe time
        packed ``mean`` and ``half`` (half the width of its t interval) `[settings, tasks]`, ``log_mean`` and
        ``log_half``, the same of logarithms where all values are positive, and ``members`` `[lines, tasks]`.
    """
    keys = metrics_of(data)
    columns = spread_evenly(len(data.tasks), MOST_TASKS)
    settings = chosen_settings(data, len(keys), len(columns))
    lines = chosen_members(data, settings, len(keys), len(columns))
    metrics: dict[str, dict[str, Any]] = {}
    for name, when in keys:
        table = data.curves[name, when][:, columns]
        found = [mean_interval(table[list(data.rows[s])]) for s in settings]
        entry = metrics.setdefault(name, metric_words(name) | {"ends": _ends(name, data), "at": {}})
        entry["at"][when] = {
            **_of_logarithms(data, table, settings),
            "mean": pack(np.array([part.estimate for part in found])),
            "half": pack(np.array([part.high - part.estimate for part in found])) if _has_bands(data) else None,
            "members": pack(table[lines]),
        }
    return {
        "tasks": data.tasks[columns].tolist(),
        "settings": settings,
        "lines": lines,
        "metrics": sorted(metrics.values(), key=lambda entry: [*_GROUPS, _OTHER].index(entry["group"])),
    }


def _of_logarithms(data: ReportData, table: np.ndarray, settings: list[int]) -> dict[str, Any]:
    """Mean and half width of the logarithms, for logarithmic axes; nothing unless all values are positive."""
    if not (table[np.isfinite(table)] > 0).all():
        return {}
    logs = np.log(table)
    found = [mean_interval(logs[list(data.rows[s])]) for s in settings]
    half = pack(np.array([part.high - part.estimate for part in found])) if _has_bands(data) else None
    return {"log_mean": pack(np.array([part.estimate for part in found])), "log_half": half}


def _ends(name: str, data: ReportData) -> list[float | None]:
    """The smallest and the greatest value that a metric can have; None where there is none."""
    found = [values for (column, _), values in data.curves.items() if column == name]
    return [end if np.isfinite(end) else None for end in range_of(name, data.members, np.stack(found))]


def metric_words(name: str) -> dict[str, str]:
    """How the page calls a metric.

    Args:
        name: its column.

    Returns:
        ``name``, ``label``, ``unit``, ``group`` and ``when``, the time it is usually read at.
    """
    axis = axis_of(name)
    group = next(
        (group for group, starts in _GROUPS.items() if name in starts or name.startswith(_stems(starts))), _OTHER
    )
    label = axis.label[0].upper() + axis.label[1:]
    return {"name": name, "label": label, "unit": axis.unit, "group": group, "when": axis.when}


def metrics_of(data: ReportData) -> list[tuple[str, str]]:
    """The metrics that are drawn: bounds of the stable rank only if they differ somewhere."""
    keys = list(data.curves)
    bounds = [(f"hessian_srank{end}", when) for end in ("_lo", "_hi") for when in WHENS]
    same = all(
        key not in data.curves
        or np.array_equal(data.curves[key], data.curves.get(("hessian_srank", key[1]), np.empty(0)), equal_nan=True)
        for key in bounds
    )
    return [key for key in keys if not (same and key in bounds)]


def chosen_settings(data: ReportData, metrics: int, tasks: int) -> list[int]:
    """As many settings as fit, with a member each: those that are shown at first, and of the others evenly chosen."""
    per_setting = (5 if _has_bands(data) else 3) * metrics * tasks
    most = max(1, MOST_VALUES // max(per_setting, 1))
    shown = [look.is_first for look in looks(data)[1]]
    firsts, others = np.flatnonzero(shown), np.flatnonzero(np.logical_not(shown))
    firsts = firsts[spread_evenly(len(firsts), most)]
    return sorted([*firsts.tolist(), *others[spread_evenly(len(others), most - len(firsts))].tolist()])


def chosen_members(data: ReportData, settings: list[int], metrics: int, tasks: int) -> list[int]:
    """As many members of these settings as fit, evenly chosen; the same number of each setting, if it has them."""
    left = MOST_VALUES - len(settings) * (4 if _has_bands(data) else 2) * metrics * tasks
    room = max(left // max(metrics * tasks, 1), 0)
    sizes = sorted(len(data.rows[s]) for s in settings)
    per_setting = max(n for n in range(sizes[-1] + 1) if sum(min(n, size) for size in sizes) <= room)
    rows = [data.rows[s] for s in settings]
    return sorted(int(row) for own in rows for row in np.array(own)[spread_evenly(len(own), per_setting)])


def spread_evenly(n: int, most: int) -> np.ndarray:
    """Places of at most so many of n things, the first and the last among them."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)) if most > 0 else np.empty(0, int)


def _has_bands(data: ReportData) -> bool:
    return any(len(rows) > 1 for rows in data.rows)


def _stems(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for name in names if name.endswith("_"))
