"""Differences between two settings, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastplast.stats.intervals import Interval, bootstrap_interval, mean_interval


@dataclass(frozen=True)
class Paired:
    """The mean over seeds of first minus second.

    Members of one seed share data, order and initial weights, so that what seeds have in common cancels.

    Attributes:
        mean: with Student's t interval of the differences.
        bootstrap: the same mean with its percentile bootstrap interval.
        seeds: that both have.
        unpaired: seeds that only one of them has, which are left out.
    """

    mean: Interval
    bootstrap: Interval
    seeds: tuple[int, ...]
    unpaired: tuple[int, ...]


def paired_difference(
    first: Mapping[int, float],
    second: Mapping[int, float],
    confidence: float = 0.95,
    resamples: int = 9999,
) -> Paired:
    """Mean difference by seed.

    Args:
        first: seed to value; a pandas Series indexed by seed will do. NaN is no value.
        second: likewise.
        confidence: coverage, between 0 and 1.
        resamples: of the bootstrap.

    Returns:
        The difference first - second.

    Raises:
        ValueError: if no seed has a value in both, or a seed is there twice.

    Example:
        >>> paired_difference({0: 0.4, 1: 0.5}, {0: 0.1, 1: 0.3, 2: 0.2}).seeds
        (0, 1)
    """
    a, b = _values("first", first), _values("second", second)
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        raise ValueError(
            f"first and second must share a seed: got seeds {_list(a)} and {_list(b)}. Train both with the same seeds."
        )
    differences = [a[seed] - b[seed] for seed in seeds]
    return Paired(
        mean_interval(differences, confidence),
        bootstrap_interval(differences, confidence=confidence, resamples=resamples),
        tuple(seeds),
        tuple(sorted(a.keys() ^ b.keys())),
    )


def _values(name: str, given: Any) -> dict[int, float]:
    pairs = [(int(seed), float(value)) for seed, value in given.items()]
    seeds = [seed for seed, _ in pairs]
    if len(set(seeds)) < len(seeds):
        again = sorted({seed for seed in seeds if seeds.count(seed) > 1})
        raise ValueError(f"{name} must have one value for each seed: got several for {again}. Give one setting.")
    return {seed: value for seed, value in pairs if value == value}


def _list(values: dict[int, float]) -> str:
    return ", ".join(map(str, sorted(values))) or "none"
