"""How one number of a member goes with another: correlations and slope, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastplast.stats.intervals import check_confidence
from fastplast.text import closest

if TYPE_CHECKING:
    import numpy
    import pandas
    from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Association:
    """How y goes with x over `n` members. NaN is a missing value: too few members, or x or y does not vary.

    Attributes:
        n: members with both values.
        pearson: linear correlation; ``pearson_low`` and ``pearson_high`` are Fisher's interval, from four members on.
        spearman: correlation of ranks, ties sharing theirs; its interval is Fisher's with Bonett and Wright's error.
        slope: of the least-squares line y = intercept + slope x; its interval is Student's t, from three members on.
        intercept: of that line.
    """

    n: int
    pearson: float
    pearson_low: float
    pearson_high: float
    spearman: float
    spearman_low: float
    spearman_high: float
    slope: float
    slope_low: float
    slope_high: float
    intercept: float

    @property
    def sign(self) -> float:
        """Of the slope: -1, 0 or 1; NaN where there is none."""
        return self.slope if self.slope != self.slope else float((self.slope > 0) - (self.slope < 0))

    @property
    def excludes_zero(self) -> bool:
        """Whether the slope's interval is there and does not hold 0."""
        return self.slope_low > 0 or self.slope_high < 0


_MISSING = dict.fromkeys([name for name in Association.__dataclass_fields__ if name != "n"], float("nan"))


def associate(x: ArrayLike, y: ArrayLike, confidence: float = 0.95) -> Association:
    """Correlations and slope of y on x.

    Args:
        x: `[M]`; NaN is a member without a value.
        y: `[M]`, likewise.
        confidence: coverage, between 0 and 1.

    Returns:
        What was found; values are missing where x or y does not vary, or fewer than two members have both.

    Raises:
        ValueError: if the lengths differ, or the confidence is no coverage.

    Reference:
        Fisher 1921, On the probable error of a coefficient of correlation. Bonett and Wright 2000, Sample size
        requirements for estimating Pearson, Kendall and Spearman correlations, Psychometrika 65.
    """
    import numpy as np
    from scipy import special, stats

    check_confidence(confidence)
    x, y = _with_both(x, y)
    n = len(x)
    if n < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Association(n, **_MISSING)
    # Scaled: squares of tiny numbers would be 0.
    line: Any = stats.linregress((x - x.mean()) / np.ptp(x), (y - y.mean()) / np.ptp(y))
    scale = np.ptp(y) / np.ptp(x)
    pearson, spearman, slope = float(line.rvalue), rank_correlation(x, y), line.slope * scale
    half = special.stdtrit(n - 2, (1 + confidence) / 2) * line.stderr * scale if n > 2 else np.nan
    return Association(
        n,
        pearson,
        *_fisher(pearson, 1.0, n, confidence),
        spearman,
        *_fisher(spearman, 1 + spearman**2 / 2, n, confidence),
        float(slope),
        float(slope - half),
        float(slope + half),
        float(y.mean() - slope * x.mean()),
    )


def associations(
    members: pandas.DataFrame,
    columns: Sequence[str],
    target: str = "mean_error",
    by: str | None = "activation",
    confidence: float = 0.95,
) -> pandas.DataFrame:
    """How every column goes with the target, within each group of members.

    Args:
        members: one row per member, as ``member_means`` gives.
        columns: numbers of the members.
        target: what they are correlated with.
        by: column that groups members; None for all together.
        confidence: coverage of the intervals.

    Returns:
        One row per column and group: ``explanation``, the group, and what ``Association`` has, ``sign`` and
        ``excludes_zero`` among it.

    Raises:
        ValueError: if a column is not there.
    """
    import dataclasses

    import pandas as pd

    for name in (*columns, target, *([by] if by else [])):
        if name not in members:
            raise ValueError(
                f"columns must be of the members: got {name!r}. {closest(name, map(str, members.columns))}"
            )
    groups = list(members.groupby(by, sort=False)) if by else [("all", members)]
    rows = []
    for name in columns:
        for group, part in groups:
            found = associate(part[name].to_numpy(float), part[target].to_numpy(float), confidence)
            signs = {"sign": found.sign, "excludes_zero": found.excludes_zero}
            rows.append({"explanation": name, by or "group": group} | dataclasses.asdict(found) | signs)
    return pd.DataFrame(rows)


def rank_correlation(x: ArrayLike, y: ArrayLike) -> float:
    """Spearman's correlation: that of ranks, ties sharing theirs.

    Args:
        x: `[M]`; NaN is a member without a value.
        y: `[M]`, likewise.

    Returns:
        The correlation; NaN where x or y does not vary, or fewer than two members have both.

    Raises:
        ValueError: if the lengths differ.
    """
    import numpy as np
    from scipy import stats

    x, y = _with_both(x, y)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    # Not spearmanr, whose rounding gives 0.9999999999999998 where the ranks are the same.
    line: Any = stats.linregress(stats.rankdata(x), stats.rankdata(y))
    return float(line.rvalue)


def _with_both(x: ArrayLike, y: ArrayLike) -> tuple[numpy.ndarray, numpy.ndarray]:
    import numpy as np

    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"x and y must be `[M]` of one length: got shapes {x.shape} and {y.shape}.")
    there = np.isfinite(x) & np.isfinite(y)
    return x[there], y[there]


def _fisher(r: float, variance: float, n: int, confidence: float) -> tuple[float, float]:
    """Interval of a correlation: tanh(artanh r ± z sqrt(variance / (n - 3)))."""
    # scipy.stats has it for Pearson's alone, and as all of [-1, 1] where there is none.
    import numpy as np
    from scipy import special

    if n < 4:
        return float("nan"), float("nan")
    if abs(r) == 1:
        return r, r
    half = float(special.ndtri((1 + confidence) / 2)) * np.sqrt(variance / (n - 3))
    return float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half))
