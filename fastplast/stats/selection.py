"""Choosing hyperparameters on some seeds and reporting on others, so that the choice does not flatter the report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastplast.stats.intervals import Interval, mean_interval
from fastplast.text import closest

if TYPE_CHECKING:
    import pandas

LEAST_SEEDS = 2


@dataclass(frozen=True)
class Selection:
    """A setting that was chosen on some seeds, and what it gives on others.

    Attributes:
        setting: hyperparameter to value.
        reported: mean of the chosen setting on the seeds that had no part in the choice, with its t interval.
        selected: the same on the seeds that chose it, which is too good by what the choice gained from chance.
        candidates: every setting with its ``mean`` on the seeds of the choice, best first.
        selection_seeds: seeds of the choice.
        report_seeds: the others.
    """

    setting: dict[str, Any]
    reported: Interval
    selected: Interval
    candidates: pandas.DataFrame
    selection_seeds: tuple[int, ...]
    report_seeds: tuple[int, ...]


def select(
    members: pandas.DataFrame,
    settings: Sequence[str],
    selection_seeds: Iterable[int],
    report_seeds: Iterable[int] | None = None,
    value: str = "mean_error",
    is_highest_best: bool = False,
) -> Selection:
    """Chooses the setting of least, or of greatest, mean value on some seeds and reports it on others.

    A setting with a member that has no value, one that diverged, comes after all those without. Of equals, the one
    whose hyperparameters sort first.

    Args:
        members: one row per member, as ``member_means`` gives.
        settings: columns of ``members`` that tell settings apart.
        selection_seeds: that choose.
        report_seeds: that report; all others if None.
        value: column to minimise.
        is_highest_best: whether it is to be maximised.

    Returns:
        The choice.

    Raises:
        ValueError: if a column is unknown, seeds overlap or are fewer than two, or a setting lacks one of them.

    Example:
        >>> select(member_means(run.metrics()), ["learning_rate"], range(3)).setting  # doctest: +SKIP
        {'learning_rate': 0.001}
    """
    import pandas as pd

    for name in (*settings, value, "seed"):
        if name not in members:
            raise ValueError(f"settings and value must be columns: got {name!r}. {closest(name, members.columns)}")
    choosing = tuple(dict.fromkeys(int(seed) for seed in selection_seeds))
    there = sorted({int(seed) for seed in members["seed"]})
    reporting = tuple(s for s in there if s not in choosing) if report_seeds is None else tuple(map(int, report_seeds))
    _check_seeds(choosing, reporting)
    groups: list[Any] = list(members.groupby(list(settings), dropna=False)) if settings else [((), members)]
    settled: list[tuple[dict[str, Any], Any, float]] = []
    worst = float("-inf" if is_highest_best else "inf")
    for key, part in groups:
        setting: dict[str, Any] = dict(zip(settings, key))
        by_seed: Any = _by_seed(part, setting, value, (*choosing, *reporting))
        chosen = by_seed[list(choosing)]
        settled.append((setting, by_seed, float(chosen.mean()) if chosen.notna().all() else worst))
    settled.sort(key=lambda one: -one[2] if is_highest_best else one[2])  # stable: of equals, the first stays first
    best, values, _ = settled[0]
    table = pd.DataFrame([{**setting, "mean": mean} for setting, _, mean in settled])
    return Selection(
        best,
        mean_interval(values[list(reporting)]),
        mean_interval(values[list(choosing)]),
        table,
        choosing,
        reporting,
    )


def split_seeds(seeds: Iterable[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Which seeds choose and which report: the last three choose, of five or four the last two.

    Args:
        seeds: that every setting has.

    Returns:
        Seeds that choose and seeds that report; both are all of them where there are fewer than four.
    """
    ordered = tuple(sorted({int(seed) for seed in seeds}))
    if len(ordered) < 2 * LEAST_SEEDS:
        return ordered, ordered
    choose = 3 if len(ordered) > 5 else LEAST_SEEDS
    return ordered[-choose:], ordered[:-choose]


def _check_seeds(choosing: tuple[int, ...], reporting: tuple[int, ...]) -> None:
    both = sorted(set(choosing) & set(reporting))
    if both:
        raise ValueError(
            f"selection_seeds and report_seeds must not overlap: got {both} in both. "
            "Report on seeds that did not choose."
        )
    for name, seeds in (("selection_seeds", choosing), ("report_seeds", reporting)):
        if len(seeds) < LEAST_SEEDS:
            got = ", ".join(map(str, seeds)) or "none"
            raise ValueError(f"{name} must be at least {LEAST_SEEDS}: got {got}. Train more seeds.")


def _by_seed(part: pandas.DataFrame, setting: dict[str, Any], value: str, seeds: Sequence[int]) -> pandas.Series:
    words = ", ".join(f"{name} {one}" for name, one in setting.items()) or "the only setting"
    by_seed = part.set_index("seed")[value].astype(float)
    if by_seed.index.has_duplicates:
        twice = sorted({int(seed) for seed in by_seed.index[by_seed.index.duplicated()]})
        raise ValueError(f"settings must tell members of one seed apart: got seed {twice[0]} twice of {words}.")
    lacking = [seed for seed in seeds if seed not in by_seed.index]
    if lacking:
        raise ValueError(f"every setting must have all seeds: got none of {lacking} of {words}. Train what is missing.")
    return by_seed
