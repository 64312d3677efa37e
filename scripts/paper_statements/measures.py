"""What a statement is decided by: numbers of each seed of a study."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy import stats

from paper_statements.inference import INFINITE, YES, Part, combine
from paper_statements.studies import Study, common, quarter

LOST = 0.1  # error at a task's end from which on a network has begun to lose plasticity
LEARNED = 0.05  # below chance, at the end of the first task, by which a network has learned at all
FELL, ROSE = (-INFINITE, 0.0), (0.0, INFINITE)
UNIT, DIFFERENCE = (0.0, 1.0), (-1.0, 1.0)
RATIOS = {"hessian_srank": 1.0, "displacement_l1": 1e-9, "update_l1_mean": 1e-9}  # what less than this counts as


def errors(study: Study, **setting: object) -> pd.DataFrame:
    """`[seeds, tasks]` of the error at task end; row k of time k + 1, the end of task k."""
    return study.curve("error", "end", **setting)


def ranks(study: Study, when: str = "start", **setting: object) -> pd.DataFrame:
    """`[seeds, tasks]` of the Hessian's stable rank, from task 1 on: task 0 starts from the initial weights."""
    return study.curve("hessian_srank", when, **setting).iloc[:, 1:]


def not_learned(study: Study, **setting: object) -> str:
    """Why a network cannot lose plasticity: it never learned; empty if it did."""
    first = errors(study, **setting).iloc[:, 0].mean()
    return "" if first < study.chance - LEARNED else f"never learned, error {first:.3f} at the end of the first task"


def error_change(study: Study, region: tuple[float, float] = ROSE, label: str = "", **setting: object) -> Part:
    """By how much the error is greater in the last quarter of tasks than in the first."""
    values = errors(study, **setting)
    first, last = quarter(values, 0), quarter(values, 3)
    beside = f"{first.mean():.3f} to {last.mean():.3f}"
    label = label or f"{setting.get('activation', '')} error rises by"
    failed = not_learned(study, **setting)
    return Part(label, (last - first).to_numpy(), region, DIFFERENCE, study.step, failed=failed, beside=beside)


def never_rises(study: Study, **setting: object) -> str:
    """Why nothing can go with a loss of plasticity: there is none; empty if there is."""
    if missing := not_learned(study, **setting):
        return missing
    rise = error_change(study, **setting)
    if len(rise.seeds) < 5:
        return "" if (rise.seeds > 0.05).all() else "the error does not rise in every seed"
    return "" if combine([rise], "all").verdict == YES else f"no certain rise of the error, {rise.mean:.3f}"


def change(
    study: Study,
    column: str,
    when: str,
    region: tuple[float, float],
    label: str,
    between: tuple[int, int] = (0, 3),
    **setting: object,
) -> Part:
    """Change of a column from one quarter of tasks to another; of ranks and update norms log2 of the ratio."""
    values = study.curve(column, when, **setting)
    if when == "start":
        values = values.iloc[:, 1:]
    if values.empty or values.isna().all(axis=None):
        return Part(label, np.array([]), region, failed=f"{column} was not measured at task {when}", absent=True)
    first, last = quarter(values, between[0]), quarter(values, between[1])
    if column in RATIOS:
        words = "{:.0f} to {:.0f}" if column == "hessian_srank" else "{:.2e} to {:.2e}"
        return Part(
            label,
            log_ratio(last, first, column).to_numpy(),
            region,
            digits=2,
            beside=words.format(first.mean(), last.mean()),
        )
    bounds = DIFFERENCE if column in ("hessian_overlap", "dormant_fraction") else None
    return Part(
        label, (last - first).to_numpy(), region, bounds, 1e-6, beside=f"{first.mean():.3f} to {last.mean():.3f}"
    )


def log_ratio(one: pd.Series, other: pd.Series, column: str) -> pd.Series:
    """log2 of a ratio; a rank of 0 counts as 1."""
    return np.log2(one.clip(lower=RATIOS[column])) - np.log2(other.clip(lower=RATIOS[column]))


def halfway(values: pd.DataFrame) -> pd.Series:
    """Number of the first task at which a seed has passed the middle of its first and last quarters; NaN if it fell."""
    first, last = quarter(values, 0), quarter(values, 3)
    passed = values.ge((first + last) / 2, axis=0)
    return (
        values.columns.to_series()
        .iloc[passed.to_numpy().argmax(1)]
        .set_axis(values.index)
        .where(passed.any(axis=1) & (last > first))
    )


def lead(study: Study, region: tuple[float, float], label: str, when: str = "start", **setting: object) -> Part:
    """Tasks from the error half-way up to the stable rank half-way down, in true time: below 0 the rank is first.

    What is measured at the start of task k is of time k, at its end of time k + 1.
    """
    fallen = halfway(-ranks(study, when, **setting)) + (when == "end")
    risen = halfway(errors(study, **setting).iloc[:, 1:]) + 1
    return Part(label, (fallen - risen).to_numpy(), region, None, 1.0, 1, never_rises(study, **setting))


def onset(values: pd.DataFrame) -> pd.Series:
    """Number of the first task that ends with an error above 0.1; the number of tasks where none does."""
    above = values.gt(LOST).to_numpy()
    return pd.Series(np.where(above.any(1), above.argmax(1), values.shape[1]), values.index, dtype=float)


def correlations(x: pd.DataFrame, y: pd.DataFrame) -> pd.Series:
    """Each seed's Spearman correlation over tasks; NaN where one does not vary."""
    x, y = common([x, y])
    varies = (x.nunique(axis=1) > 1) & (y.nunique(axis=1) > 1)
    found = [stats.spearmanr(x.loc[seed], y.loc[seed]).statistic if varies[seed] else np.nan for seed in x.index]
    return pd.Series(found, x.index, dtype=float)


def goes_with(
    study: Study, column: str, when: str, direction: int, label: str, target: str = "error", **setting: object
) -> Part:
    """Correlation over tasks of the changes from task to task; beside it that of the levels and of the task number."""
    x, y = study.curve(column, when, **setting), study.curve(target, "end", **setting)
    if x.empty or x.isna().all(axis=None):
        return Part(label, np.array([]), failed=f"{column} was not measured at task {when}", absent=True)
    number = y * 0 + np.arange(y.shape[1])
    changes = correlations(x.diff(axis=1).iloc[:, 1:], y.diff(axis=1).iloc[:, 1:])
    level, trend = correlations(x, y).mean(), correlations(number, y).mean()
    failed = never_rises(study, **setting) if target == "error" else ""
    step = 12 / (y.shape[1] * (y.shape[1] ** 2 - 1))
    beside = f"levels {level:.2f}, task number alone {trend:.2f}"
    region = ROSE if direction > 0 else FELL
    return Part(label, changes.to_numpy(), region, DIFFERENCE, step, 2, failed, beside)


def slope(study: Study, column: str, when: str, region: tuple[float, float], label: str, **setting: object) -> Part:
    """Each seed's least-squares slope over tasks of a measurement on the error."""
    x, y = common([errors(study, **setting), study.curve(column, when, **setting)])
    vary = (x.nunique(axis=1) > 1) & y.notna().all(axis=1)
    level = y.nunique(axis=1) == 1  # a slope of 0, whatever rounding makes of it
    fitted = [stats.linregress(x.loc[seed], y.loc[seed]).slope if vary[seed] else np.nan for seed in x.index]
    found = np.where(vary & level, 0.0, fitted)
    return Part(label, found, region, digits=None, failed=never_rises(study, **setting))


def late(study: Study, column: str, when: str, settings: list[dict]) -> list[pd.Series]:
    """Of each setting, each seed's mean over the last quarter of the tasks that all have."""
    tables = common(study.curve(column, when, **setting) for setting in settings)
    if when == "start":
        tables = [table.iloc[:, 1:] for table in tables]
    return [quarter(table, 3) for table in tables]


def compare(
    study: Study, column: str, when: str, one: dict, other: dict, region: tuple[float, float], label: str
) -> Part:
    """Difference of two settings by seed, in the last quarter of tasks; of stable ranks log2 of the ratio."""
    a, b = late(study, column, when, [one, other])
    if column == "hessian_srank":
        beside = f"{a.mean():.0f} against {b.mean():.0f}"
        return Part(label, log_ratio(a, b, column).to_numpy(), region, digits=2, beside=beside)
    bounded, beside = column in ("error", "online_error"), f"{a.mean():.3f} against {b.mean():.3f}"
    bounds, step = (DIFFERENCE, study.step) if bounded else (None, 0.0)
    return Part(label, (a - b).to_numpy(), region, bounds, step, beside=beside)


def premise_of(part: Part, why: str) -> Part:
    """A part that decides nothing if there is a reason why."""
    return replace(part, failed=part.failed or why)
