"""What the paper's text says of each experiment, in our words, and how it is decided from stored results.

A statement holds ("yes") where the 95% interval over members lies wholly on the claimed side, does not hold ("no")
where it lies wholly on the other, and is not decided otherwise, or where what it needs was not run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fastplast.stats import EXPLANATIONS, Explanation, associate, mean_interval, paired_difference, task_correlations

YES, NO, OPEN = "yes", "no", "not decided at this scale"
LOST = 0.1  # error at task end from which on a member has begun to lose plasticity
_STILL = "the error at task end does not change over tasks"
_SHARPNESS = Explanation("sharpness", "hessian_sharpness", "start", +1)
NONLINEAR = ("relu", "leaky_relu", "tanh")


@dataclass(frozen=True)
class Finding:
    """A statement of the text and what the results say of it."""

    text: str
    verdict: str
    evidence: str


def decide(interval: tuple[float, float, float], claimed: int) -> str:
    """Yes, no or open: whether an interval lies on the claimed side of 0.

    Args:
        interval: estimate, low, high.
        claimed: +1 or -1.
    """
    _, low, high = interval
    if not (np.isfinite(low) and np.isfinite(high)):
        return OPEN
    if low > 0 or high < 0:
        return YES if np.sign(low + high) == claimed else NO
    return OPEN


def curve(rows: pd.DataFrame, column: str, when: str = "end") -> pd.DataFrame:
    """`[members, tasks]` of a column."""
    chosen = rows[rows["when"] == when]
    return chosen.pivot(index="member", columns="task", values=column).astype(float)


def interval(values: pd.Series | np.ndarray) -> tuple[float, float, float]:
    """Mean over members with its 95% t interval; of members that all have one value, that value."""
    found = mean_interval(np.asarray(values, float))
    return float(found.estimate), float(found.low), float(found.high)


def in_words(found: tuple[float, float, float], digits: int = 3) -> str:
    """An estimate with its interval; of fewer than two members there is none."""
    if not np.isfinite(found[0]):
        return "cannot be told"
    if not np.isfinite(found[1]):
        return f"{found[0]:.{digits}f}"
    return "{:.{d}f} [{:.{d}f}, {:.{d}f}]".format(*found, d=digits)


def quarters(values: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Each member's mean over the first and over the last quarter of tasks."""
    size = max(1, values.shape[1] // 4)
    return values.iloc[:, :size].mean(axis=1), values.iloc[:, -size:].mean(axis=1)


def rise(rows: pd.DataFrame, column: str, when: str = "end") -> tuple[float, float, float]:
    """By how much a column is greater in the last quarter of tasks than in the first."""
    first, last = quarters(curve(rows, column, when))
    return interval(last - first)


def plasticity_is_lost(table: pd.DataFrame) -> Iterator[Finding]:
    """Section 3: error at task end over tasks, by activation."""
    for activation, rows in table.groupby("activation", sort=False):
        found = rise(rows, "error")
        first, last = (interval(part)[0] for part in quarters(curve(rows, "error")))
        evidence = f"error {first:.3f} in the first quarter of tasks, {last:.3f} in the last: rise {in_words(found)}"
        if activation == "identity":
            verdict = YES if found[2] < LOST else NO if found[1] > LOST else OPEN
            yield Finding(f"a deep linear network keeps its plasticity (rise below {LOST})", verdict, evidence)
        else:
            yield Finding(f"{activation} networks lose plasticity", decide(found, +1), evidence)


def within_members(rows: pd.DataFrame, explanation: Explanation) -> tuple[float, float, float]:
    """Spearman's correlation over tasks of an explanation with the error at the task's end, mean over members."""
    found = task_correlations(rows, {"it": explanation}).iloc[0]
    return found["rho"], found["low"], found["high"]


def earlier_explanations_fail(table: pd.DataFrame) -> Iterator[Finding]:
    """Section 3: no earlier explanation goes with the error the way it is claimed to with every activation."""
    losing = [
        (a, rows) for a, rows in table.groupby("activation", sort=False) if a in NONLINEAR and _varies(rows, "error")
    ]
    for name, explanation in EXPLANATIONS.items():
        if name == "hessian_srank":
            continue
        words, against, certain = [], False, True
        for activation, rows in losing:
            found = within_members(rows, explanation)
            still = not np.isfinite(found[1])  # what changes in one member at most goes with nothing
            against |= still or decide(found, explanation.direction) == NO
            certain &= decide(found, explanation.direction) == YES
            words.append(f"{activation} " + ("does not vary" if still else in_words(found, 2)))
        verdict = YES if against else NO if certain and losing else OPEN
        claimed = "positive" if explanation.direction > 0 else "negative"
        yield Finding(
            f"{explanation.label} does not correlate with the error as claimed, {claimed}ly, for every activation",
            verdict,
            "Spearman over tasks: " + ", ".join(words) if words else _STILL,
        )


def _varies(rows: pd.DataFrame, column: str) -> bool:
    """Whether a column changes over tasks at task end in more than one member."""
    return int((curve(rows, column).nunique(axis=1) > 1).sum()) > 1


def curvature_is_lost(table: pd.DataFrame) -> Iterator[Finding]:
    """Section 4: stable rank of the Hessian at task start."""
    for activation, rows in table.groupby("activation", sort=False):
        values = curve(rows, "hessian_srank", "start").iloc[:, 1:]  # task 0 starts from the initial weights
        first, last = quarters(values)
        found = interval(np.log2((last / first).to_numpy()))
        evidence = (
            f"stable rank {first.mean():.0f} in the first quarter of tasks from task 1, {last.mean():.0f} in the last: "
            f"log2 of the ratio {in_words(found, 2)}"
        )
        if activation == "identity":
            yield Finding(
                "the linear network, which keeps its plasticity, keeps half of its curvature or more",
                YES if found[1] > -1 else NO if found[2] < -1 else OPEN,
                evidence,
            )
        else:
            yield Finding(f"{activation} networks lose directions of curvature", decide(found, -1), evidence)
            yield _order_of_losses(activation, rows)
    for activation, rows in table.groupby("activation", sort=False):
        found = within_members(rows, EXPLANATIONS["hessian_srank"])
        yield Finding(
            f"less curvature at a task's start goes with more error at its end ({activation})",
            decide(found, -1),
            f"Spearman over tasks {in_words(found, 2)}" if _varies(rows, "error") else _STILL,
        )


def _order_of_losses(activation: str, rows: pd.DataFrame, when: str = "start") -> Finding:
    """Whether a member's curvature has gone half of its way down no later than its error half of its way up."""
    ranks, errors = curve(rows, "hessian_srank", when).iloc[:, 1:], curve(rows, "error").iloc[:, 1:]
    fallen, risen = _halfway(-ranks), _halfway(errors)
    found = interval((fallen - risen).to_numpy())
    verdict = YES if found[2] < 1 else NO if found[1] > 0 else OPEN
    both = f"in {(fallen - risen).notna().sum()} of {len(errors)} members"
    return Finding(
        f"{activation}: loss of curvature at task {when} comes with or before loss of plasticity",
        verdict,
        f"tasks from the error half-way up to the stable rank half-way down {in_words(found, 1)}, {both}"
        if np.isfinite(found[0])
        else f"the error rises and the stable rank falls {both}",
    )


def _halfway(values: pd.DataFrame) -> pd.Series:
    """First task at which a member has passed the middle of its first and last quarters; NaN if it does not rise."""
    first, last = quarters(values)
    passed = values.ge((first + last) / 2, axis=0).to_numpy()
    tasks = np.where(passed.any(1) & (last > first), passed.argmax(1), np.nan)
    return pd.Series(tasks, values.index)


def gradients_align(table: pd.DataFrame) -> Iterator[Finding]:
    """Section 6.2: overlap of gradient and Hessian at task end."""
    for activation, rows in table.groupby("activation", sort=False):
        if activation in NONLINEAR:
            found = rise(rows, "hessian_overlap")
            yield Finding(
                f"{activation}: the gradient at task end comes to lie along the leading curvature",
                decide(found, +1),
                f"overlap rises by {in_words(found, 2)} from the first to the last quarter of tasks",
            )


def curvature_at_task_end(table: pd.DataFrame) -> Iterator[Finding]:
    """Appendix C.2: stable rank at task end."""
    for activation, rows in table.groupby("activation", sort=False):
        if activation in NONLINEAR:
            found = rise(rows, "hessian_srank", "end")
            yield Finding(
                f"{activation}: the stable rank falls at task end as well",
                decide(found, -1),
                f"change from the first to the last quarter of tasks {in_words(found, 0)}",
            )
            yield _order_of_losses(activation, rows, "end")


def sharpness_fails(table: pd.DataFrame) -> Iterator[Finding]:
    """Appendix D.4: sharpness at task start is no consistent explanation."""
    signs, words = [], []
    for activation, rows in table.groupby("activation", sort=False):
        if activation not in NONLINEAR:
            continue
        found = within_members(rows, _SHARPNESS)
        signs.append(np.sign(found[0]) if decide(found, 1) != OPEN else 0)
        words.append(f"{activation} {in_words(found, 2)}")
    verdict = YES if {-1, 1} <= set(signs) else NO if len(set(signs)) == 1 and signs[0] else OPEN
    yield Finding(
        "sharpness goes with the error one way with one activation and the other way with another",
        verdict,
        "Spearman over tasks: " + ", ".join(words),
    )


def regularisers_help(table: pd.DataFrame) -> Iterator[Finding]:
    """Section 6: error and stable rank with each regulariser beside none, seed by seed."""
    table = table[table["hessian_srank"].notna() | (table["when"] == "end")]
    for activation, rows in table.groupby("activation", sort=False):
        base = rows[rows["method"] == "none"]
        for (method, reduction, strength), part in rows[rows["method"] != "none"].groupby(
            ["method", "reduction", "strength"], sort=False
        ):
            who = f"{activation}, {method}, {reduction} {strength:g}"
            error = _late(part, "error", "end"), _late(base, "error", "end")
            rank = _late(part, "hessian_srank", "start"), _late(base, "hessian_srank", "start")
            lower, higher = _difference(*error), _difference(*rank)
            numbers = (
                f"error in the last quarter {error[0].mean():.3f} against {error[1].mean():.3f}: {in_words(lower)}; "
                f"stable rank {rank[0].mean():.0f} against {rank[1].mean():.0f}: {in_words(higher, 0)}"
            )
            mitigates, preserves = decide(lower, -1), decide(higher, +1)
            yield Finding(f"{who}: mitigates the loss of plasticity", mitigates, numbers)
            if mitigates == YES:
                yield Finding(f"{who}: and so preserves curvature", preserves, "as above")


def curvature_goes_with_plasticity(table: pd.DataFrame) -> Iterator[Finding]:
    """Section 6.1: over methods and seeds, on each problem."""
    for benchmark, rows in table[table["activation"] == "relu"].groupby("benchmark", sort=False):
        later = rows[rows["task"] > 0].groupby(["when", "member"])[["error", "hessian_srank"]].mean()
        rank, error = later.loc["start", "hessian_srank"], later.loc["end", "error"]
        found = associate(rank.to_numpy(), error[rank.index].to_numpy())
        spearman = found.spearman, found.spearman_low, found.spearman_high
        yield Finding(
            f"over methods and seeds, more curvature at task starts goes with less error ({benchmark})",
            decide(spearman, -1),
            f"Spearman of mean stable rank and mean error from task 1 on {in_words(spearman, 2)}, {found.n} members, "
            f"J_K from {error.min():.3f} to {error.max():.3f}",
        )


def wasserstein_is_robust(table: pd.DataFrame) -> Iterator[Finding]:
    """Section 6: the range of strengths that works, by method and reduction."""
    none = table[(table["method"] == "none") & (table["when"] == "end")].groupby("member")["error"].mean()
    ends = table[(table["method"] != "none") & (table["when"] == "end")]
    by = ends.groupby(["reduction", "method", "strength", "member"])["error"].mean()
    mean = by.groupby(["reduction", "method", "strength"]).mean()
    for reduction in ("mean", "sum"):
        works = {
            method: [f"{s:g}" for s, error in mean[reduction, method].items() if error < none.mean() / 2]
            for method in ("l2", "regenerative", "wasserstein")
        }
        most = max(len(found) for name, found in works.items() if name != "wasserstein")
        own = len(works["wasserstein"])
        yield Finding(
            f"Wasserstein works over at least as many strengths as the others (reduction {reduction})",
            YES if own >= most and own else NO if own < most else OPEN,
            f"strengths of five with J_K below half of {none.mean():.3f} without: "
            + ", ".join(f"{name} {len(found)} ({', '.join(found) or 'none'})" for name, found in works.items()),
        )


def longer_tasks_lose_sooner(table: pd.DataFrame) -> Iterator[Finding]:
    """Appendix C.1: more updates a task, more loss."""
    ends = table[table["when"] == "end"]
    errors = ends.groupby(["seed", "epochs"])["error"].mean().unstack()
    rho = [associate(errors.columns.to_numpy(float), row.to_numpy()).spearman for _, row in errors.iterrows()]
    found = interval(np.array(rho))
    levels = ", ".join(f"{epochs} epochs {value:.3f}" for epochs, value in errors.mean().items())
    yield Finding(
        "more updates a task go with more loss of plasticity over as many tasks",
        decide(found, +1),
        f"J_K {levels}; Spearman over budgets, mean over seeds, {in_words(found, 2)}",
    )


def linear_fails_with_more_examples(table: pd.DataFrame) -> Iterator[Finding]:
    """Appendix E: ten times the examples."""
    for activation, rows in table.groupby("activation", sort=False):
        errors = curve(rows, "error")
        if activation == "identity":
            found = interval(errors.iloc[:, 0].to_numpy())
            text = "the linear network cannot fit 12,800 shuffled labels even on its first task (error above 0.1)"
            verdict = YES if found[1] > LOST else NO if found[2] < LOST else OPEN
            yield Finding(text, verdict, f"error at the end of task 0 {in_words(found)}")
        else:
            found = rise(rows, "error")
            yield Finding(f"{activation} networks lose plasticity", decide(found, +1), f"rise {in_words(found)}")


def _late(rows: pd.DataFrame, column: str, when: str) -> pd.Series:
    """Seed to mean over the last quarter of tasks."""
    chosen = rows[rows["when"] == when]
    last = chosen["task"].max() + 1
    return chosen[chosen["task"] >= last - max(1, last // 4)].groupby("seed")[column].mean()


def _difference(first: pd.Series, second: pd.Series) -> tuple[float, float, float]:
    found = paired_difference(first, second).mean
    return float(found.estimate), float(found.low), float(found.high)
