"""Settings by their mean error, or another score: all of them ranked, or the best of each kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from fastplast.stats.intervals import Interval, mean_interval, within_range
from fastplast.stats.selection import select, split_seeds

if TYPE_CHECKING:
    import pandas


class Score(NamedTuple):
    """What settings are ranked by.

    Attributes:
        column: of the members.
        least: the smallest value that there can be.
        most: the greatest.
        is_highest_best: whether the highest values are the best, and not the lowest.
    """

    column: str = "mean_error"
    least: float = 0.0
    most: float = 1.0
    is_highest_best: bool = False


MEAN_ERROR = Score()


def rank(
    members: pandas.DataFrame, settings: Sequence[str], by: Sequence[str] = (), score: Score = MEAN_ERROR
) -> pandas.DataFrame:
    """All settings with the mean over seeds of the mean error, or of another score, best first.

    A setting with a member that diverged comes after all those without, as in ``select``.

    Args:
        members: one row per member, as ``member_means`` gives.
        settings: columns that tell settings apart.
        by: those of them whose every combination has a best setting of its own, and stands together.
        score: what is ranked.

    Returns:
        `settings`, then ``mean_error`` or the other score, the ends ``low`` and ``high`` of its 95 % interval, the
        ``n`` members that have a value, how many ``diverged``, and whether it is ``best``.
    """
    import pandas as pd

    rows = []
    for key, part in _grouped(members, settings):
        found = within_range(mean_interval(part[score.column].to_numpy(float)), score.least, score.most)
        rows.append(
            dict(zip(settings, key)) | _results(found, score) | {"diverged": int(part["diverged"].astype(bool).sum())}
        )
    table = pd.DataFrame(rows)
    table["_bad"] = table["diverged"] > 0
    order, ascending = [*by, "_bad", score.column], [True] * (len(by) + 1) + [not score.is_highest_best]
    table = table.sort_values(order, ascending=ascending, kind="stable", na_position="last", ignore_index=True)
    table = table.drop(columns="_bad")
    is_first = ~table.duplicated(list(by)) if by else table.index == 0
    return table.assign(best=is_first & table[score.column].notna())


def best(
    members: pandas.DataFrame, settings: Sequence[str], by: Sequence[str] = (), score: Score = MEAN_ERROR
) -> tuple[pandas.DataFrame, str]:
    """The best setting of every combination, chosen on some seeds and reported on the others where there are enough.

    Args:
        members: one row per member, as ``member_means`` gives.
        settings: columns that tell settings apart.
        by: those of them whose every combination has a best setting of its own.
        score: in what it is best.

    Returns:
        As of ``rank``, a row for each combination; and on which seeds they were chosen and are reported, in words.

    Raises:
        ValueError: if a setting lacks a seed that others have.
    """
    import pandas as pd

    choosing, reporting = split_seeds(members["seed"])
    if set(choosing) & set(reporting):
        ranked = rank(members, settings, by, score)
        text = f"Chosen and reported on the same seeds ({len(reporting)}), which flatters the best: train at least 4."
        first: pandas.DataFrame = ranked[ranked["best"]].reset_index(drop=True)  # type: ignore[assignment]
        return first, text
    others, rows = [name for name in settings if name not in by], []
    for key, part in _grouped(members, by):
        chosen = select(part, others, choosing, reporting, score.column, score.is_highest_best)
        values: Any = part
        for name, value in chosen.setting.items():
            values = values[values[name].isna() if pd.isna(value) else values[name] == value]
        setting = dict(zip(by, key)) | chosen.setting
        diverged = int(values["diverged"].astype(bool).sum())
        row = {name: setting[name] for name in settings} | _results(
            within_range(chosen.reported, score.least, score.most), score
        )
        rows.append(row | {"diverged": diverged, "best": True})
    table = pd.DataFrame(rows).sort_values(
        score.column, ascending=not score.is_highest_best, kind="stable", na_position="last", ignore_index=True
    )
    return table, f"Chosen on seeds {_seeds(choosing)}, reported on seeds {_seeds(reporting)}."


def _grouped(members: pandas.DataFrame, names: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pandas.DataFrame]]:
    if not names:
        yield (), members
        return
    for key, part in members.groupby(list(names), dropna=False, sort=True):
        yield key if isinstance(key, tuple) else (key,), part


def _results(found: Interval, score: Score) -> dict[str, Any]:
    ends = {score.column: found.estimate, "low": found.low, "high": found.high}
    return {name: float(value) for name, value in ends.items()} | {"n": int(found.n)}


def _seeds(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds)) if len(seeds) < 8 else f"{seeds[0]} to {seeds[-1]} ({len(seeds)})"
