"""From one value a seed to an interval, a p value and a verdict; the seed is the unit."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import special, stats

ALPHA = 0.05
LEAST_SEEDS = 5  # fewer give an estimate and no interval
INFINITE = float("inf")
YES, NO, OPEN, FEW, PREMISE, NOT_RUN = "yes", "no", "undecided", "too few seeds", "premise fails", "not run"
UNDECIDED = (OPEN, FEW, PREMISE, NOT_RUN)


@dataclass(frozen=True)
class Part:
    """A number of which a statement says where it lies.

    Attributes:
        label: what it is, for people.
        values: one a seed; NaN is none.
        region: open interval in which the statement says that their mean lies.
        bounds: least and greatest possible value; None if there are none.
        step: between neighbouring possible values of one seed.
        digits: to print after the point; None for three significant ones.
        failed: why it decides nothing, in words; empty if its premise holds.
        beside: further evidence, in words.
        absent: whether what it needs was not run or not measured.
    """

    label: str
    values: np.ndarray
    region: tuple[float, float] = (0.0, INFINITE)
    bounds: tuple[float, float] | None = None
    step: float = 0.0
    digits: int | None = 3
    failed: str = ""
    beside: str = ""
    absent: bool = False

    @property
    def seeds(self) -> np.ndarray:
        """The values that are there."""
        values = np.asarray(self.values, float)
        return values[np.isfinite(values)]

    @property
    def mean(self) -> float:
        """Over seeds; NaN without any."""
        return float(self.seeds.mean()) if len(self.seeds) else float("nan")

    @property
    def inside(self) -> bool:
        """Whether the mean lies where the statement says."""
        return self.region[0] < self.mean < self.region[1]

    def _scale(self, value: float) -> float:
        """The value as Student's t has it: the logit of its place between the bounds, which no end can pass."""
        return value if self.bounds is None else float(special.logit(self._place(value)))

    def _place(self, value: float) -> float:
        assert self.bounds is not None
        width = self.bounds[1] - self.bounds[0]
        least = max(self.step, 1e-9) / 2 / width
        return float(np.clip((value - self.bounds[0]) / width, least, 1 - least))

    @property
    def _error(self) -> float:
        """Standard error of the mean on that scale (delta method); seeds are no closer than rounding lets them be."""
        spread = max(float(self.seeds.std(ddof=1)), self.step / 12**0.5) / len(self.seeds) ** 0.5
        if self.bounds is None:
            return spread
        place = self._place(self.mean)
        return spread / (place * (1 - place) * (self.bounds[1] - self.bounds[0]))

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of the mean."""
        half = float(stats.t.ppf(1 - ALPHA / 2, len(self.seeds) - 1)) * self._error
        ends = self._scale(self.mean) - half, self._scale(self.mean) + half
        if self.bounds is None:
            return ends
        low, high = (self.bounds[0] + (self.bounds[1] - self.bounds[0]) * float(special.expit(end)) for end in ends)
        return min(low, self.mean), max(high, self.mean)

    def _p_at(self, value: float) -> float:
        away = self._scale(value) - self._scale(self.mean)
        if away == 0 or self._error == 0:
            return float(away == 0)
        return float(2 * stats.t.sf(abs(away) / self._error, len(self.seeds) - 1))

    @property
    def p(self) -> float:
        """Of the side on which the mean lies: below 0.05 exactly where the 95% interval lies on that side wholly."""
        edges = [edge for edge in self.region if np.isfinite(edge)]
        if self.inside:
            return max(map(self._p_at, edges))
        passed = [
            edge for edge, side in zip(self.region, (1, -1)) if np.isfinite(edge) and side * self.mean <= side * edge
        ]
        return self._p_at(passed[0])

    @property
    def undecidable(self) -> str:
        """Why there is no verdict whatever the numbers; empty if there may be one."""
        if self.absent:
            return NOT_RUN
        return PREMISE if self.failed else FEW if len(self.seeds) < LEAST_SEEDS else ""

    def __str__(self) -> str:
        n = len(self.seeds)
        if not n:
            return f"{self.label}: {self.failed or 'no value'}"
        words = f"{self.label} {self._in_digits(self.mean)}"
        if n >= LEAST_SEEDS:
            words += " [{}, {}]".format(*map(self._in_digits, self.interval))
        else:
            within = (self.seeds > self.region[0]) & (self.seeds < self.region[1])
            words += f" ({within.sum()} of {n} seeds as claimed)"
        return words + (f" ({self.beside})" if self.beside else "") + (f": {self.failed}" if self.failed else "")

    def _in_digits(self, value: float) -> str:
        if self.digits is None:
            return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
        return f"{round(value, self.digits) + 0.0:.{self.digits}f}"


@dataclass(frozen=True)
class Finding:
    """What some runs say of a statement.

    Attributes:
        verdict: at 5%, without correction.
        p: of the verdict, or of the side that the numbers are on; NaN if there was no test.
        side: yes or no, whatever p.
        parts: on which it rests.
    """

    verdict: str
    p: float = float("nan")
    side: str = ""
    parts: list[Part] = field(default_factory=list)

    def corrected(self, p: float) -> str:
        """The verdict with a p value that is corrected for the number of tests."""
        return self.verdict if not self.side else self.side if p < ALPHA else OPEN


def combine(parts: list[Part], mode: str) -> Finding:
    """A verdict from parts.

    A claim of all parts holds if each does, with the greatest p; it fails if one does, with the least p times their
    number (Bonferroni). A claim of any part is its mirror image. Parts whose premise fails are left out, unless all do.

    Args:
        parts: one or more.
        mode: ``all`` or ``any``.

    Returns:
        The finding.
    """
    counted = [part for part in parts if part.undecidable != PREMISE] or parts
    tested = [part for part in counted if not part.undecidable]
    one = mode == "any"  # which side a single part settles
    single = [part.p for part in tested if part.inside == one]
    others = [part.p for part in tested if part.inside != one]
    settled = min(1.0, len(counted) * min(single)) if single else 1.0
    names = (YES, NO) if one else (NO, YES)
    if settled < ALPHA:
        return Finding(names[0], settled, names[0], parts)
    if len(tested) < len(counted) or not parts:
        reasons = {part.undecidable for part in counted} or {NOT_RUN}
        return Finding(next(reason for reason in (PREMISE, FEW, NOT_RUN) if reason in reasons), parts=parts)
    if single:
        return Finding(OPEN, settled, names[0], parts)
    p = max(others)
    return Finding(names[1] if p < ALPHA else OPEN, p, names[1], parts)


def holm(p_values: list[float]) -> list[float]:
    """Holm's adjusted p values; NaN is no test.

    Reference:
        Holm 1979, A simple sequentially rejective multiple test procedure.
    """
    p = np.asarray(p_values, float)
    there = np.flatnonzero(np.isfinite(p))
    order = there[np.argsort(p[there], kind="stable")]
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)))
    return adjusted.tolist()
