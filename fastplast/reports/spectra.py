"""Eigenvalues of some tasks and members, thinned: magnitudes by rank, positive and negative ones apart."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastplast.reports.curves import spread_evenly
from fastplast.reports.packing import pack
from fastplast.reports.reading import ReportData
from fastplast.runs.files import StoreError
from fastplast.runs.run import WHENS, Run

MOST_TASKS = 12
MOST_MEMBERS = 48
POINTS = 40  # of each sign; ranks are close to geometric, so that the largest eigenvalues are all there


def spectra(data: ReportData) -> dict[str, Any] | None:
    """What the chart of eigenvalues draws.

    Args:
        data: of the runs.

    Returns:
        ``tasks``, ``rows`` of the members, and for each probe time ``rank`` and ``size`` packed
        `[rows, tasks, 2, POINTS]`, positive then negative, NaN where there are fewer; None if no spectrum was stored.
    """
    stored = [_stored(part.run) for part in data.parts]
    times = [when for when in WHENS if any(tasks[when] for tasks in stored)]
    if not times:
        return None
    known = sorted({task for tasks in stored for when in times for task in tasks[when]})
    tasks = [known[i] for i in spread_evenly(len(known), MOST_TASKS)]
    per_setting = max(1, MOST_MEMBERS // len(data.settings))
    settings = [data.rows[s] for s in spread_evenly(len(data.settings), MOST_MEMBERS)]
    rows = sorted(int(row) for own in settings for row in np.array(own)[spread_evenly(len(own), per_setting)])
    at = {}
    for when in times:
        found = np.full((2, len(rows), len(tasks), 2, POINTS), np.nan)
        for part in range(len(data.parts)):
            _fill(found, data, part, rows, tasks, when)
        if not np.isnan(found).all():
            at[when] = {"rank": pack(found[0]), "size": pack(found[1])}
    return {"tasks": tasks, "rows": rows, "at": at} if at else None


def thinned(eigenvalues: np.ndarray) -> np.ndarray:
    """Some eigenvalues with their ranks.

    Args:
        eigenvalues: `[D]`, in any order.

    Returns:
        `[2, 2, POINTS]`: rank from 1 and magnitude, of positive and of negative eigenvalues, the largest magnitude
        first; NaN beyond the last.
    """
    found = np.full((2, 2, POINTS), np.nan)
    for sign, values in enumerate((eigenvalues[eigenvalues > 0], -eigenvalues[eigenvalues < 0])):
        ordered = np.sort(values[np.isfinite(values)].astype(np.float64))[::-1]
        if len(ordered):
            places = np.unique(np.geomspace(1, len(ordered), POINTS).round().astype(int))
            found[0, sign, : len(places)] = places
            found[1, sign, : len(places)] = ordered[places - 1]
    return found


def _fill(found: np.ndarray, data: ReportData, part: int, rows: list[int], tasks: list[int], when: str) -> None:
    own = [(i, row) for i, row in enumerate(rows) if data.members["part"].iloc[row] == part]
    for k, task in enumerate(tasks if own else []):
        try:
            every = data.parts[part].run.spectra(task, when)
        except StoreError:
            continue
        for i, row in own:
            stopped = data.diverged.get(row)
            if stopped is None or task < stopped.task:
                found[:, i, k] = thinned(every[int(data.members["member"].iloc[row])])


def _stored(run: Run) -> dict[str, list[int]]:
    return {
        when: [int(path.stem.split("-")[1]) for path in sorted((run.path / "spectra").glob(f"task-*-{when}.npz"))]
        for when in WHENS
    }
