"""Statistics over members: intervals, selection of settings, paired differences, and what goes with the error."""

from fastplast.stats.associations import Association, associate, associations
from fastplast.stats.consistency import Consistency, consistency
from fastplast.stats.explanations import EXPLANATIONS, Explanation, member_means
from fastplast.stats.intervals import (
    STATISTICS,
    Interval,
    bootstrap_interval,
    interquartile_mean,
    mean_interval,
    within_range,
)
from fastplast.stats.lines import Line, least_squares
from fastplast.stats.paired import Paired, paired_difference
from fastplast.stats.ranking import Score, best, rank
from fastplast.stats.selection import Selection, select, split_seeds
from fastplast.stats.within import task_consistency, task_correlations

__all__ = [
    "EXPLANATIONS",
    "STATISTICS",
    "Association",
    "Consistency",
    "Explanation",
    "Interval",
    "Line",
    "Paired",
    "Score",
    "Selection",
    "associate",
    "associations",
    "best",
    "bootstrap_interval",
    "consistency",
    "interquartile_mean",
    "least_squares",
    "mean_interval",
    "member_means",
    "paired_difference",
    "rank",
    "select",
    "split_seeds",
    "task_consistency",
    "task_correlations",
    "within_range",
]
