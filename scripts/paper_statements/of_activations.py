"""Rules about networks without a regulariser: what is lost, when, and what goes with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from paper_statements.inference import INFINITE, Part
from paper_statements.measures import (
    DIFFERENCE,
    FELL,
    LOST,
    ROSE,
    UNIT,
    change,
    compare,
    correlations,
    error_change,
    errors,
    goes_with,
    lead,
    never_rises,
    not_learned,
    onset,
    premise_of,
    slope,
)
from paper_statements.studies import Study, common, quarter

BELOW = (-INFINITE, LOST)
CONSTANT = (-1.0, 1.0)  # a stable rank that changes by less than a factor of two
NONE = {"method": "none"}
# Earlier explanations: column and the sign that their correlation with the error is claimed to have.
EARLIER = {
    "update norm": ("displacement_l1", -1),
    "weight norm": ("weight_norm_l1", +1),
    "weight stable rank": ("weight_srank_{layer}", -1),
    "feature stable rank": ("feature_srank_{layer}", -1),
    "activation entropy": ("activation_entropy", -1),
}


def low_at_first(study: Study, activations: list[str]) -> list[Part]:
    """The mean error at the end of the first two tasks is below 0.1."""
    return [
        Part(f"{a}", errors(study, activation=a).iloc[:, :2].mean(axis=1).to_numpy(), BELOW, UNIT, study.step)
        for a in activations
    ]


def error_rises(study: Study, activations: list[str]) -> list[Part]:
    """The error at task end is greater in the last quarter of tasks than in the first."""
    return [error_change(study, ROSE, a, activation=a) for a in activations]


def error_stays(study: Study, activations: list[str]) -> list[Part]:
    """That rise is below 0.1."""
    return [error_change(study, BELOW, a, activation=a) for a in activations]


def loses_first(study: Study, first: str, activations: list[str]) -> list[Part]:
    """The first task that ends with an error above 0.1 is later than that of the named activation."""
    parts = []
    for other in activations:
        own, its = common([errors(study, activation=first), errors(study, activation=other)])
        a, b = onset(own), onset(its)
        beside = f"error above {LOST:g} from task {a.mean():.1f} against {b.mean():.1f}"
        part = Part(f"{other} after {first} by tasks", (b - a).to_numpy(), ROSE, None, 1.0, 1, beside=beside)
        parts.append(premise_of(part, never_rises(study, activation=first)))
    return parts


def column_changes(study: Study, column: str, when: str, direction: int, activations: list[str]) -> list[Part]:
    """The measurement changes in the stated direction from the first to the last quarter of tasks."""
    region = ROSE if direction > 0 else FELL
    return [change(study, column, when, region, a, activation=a) for a in activations]


def changes_with_loss(study: Study, column: str, when: str, direction: int, activations: list[str]) -> list[Part]:
    """The same; only where the error rises."""
    parts = column_changes(study, column, when, direction, activations)
    return [premise_of(part, never_rises(study, activation=a)) for part, a in zip(parts, activations)]


def rank_constant(study: Study, activations: list[str]) -> list[Part]:
    """The stable rank at task start changes by less than a factor of two; only where the error stays."""
    parts = []
    for a in activations:
        part = change(study, "hessian_srank", "start", CONSTANT, a, activation=a)
        rise = error_change(study, BELOW, activation=a)
        rises = rise.failed or ("" if rise.inside else f"the error rises by {rise.mean:.3f}")
        parts.append(premise_of(part, rises))
    return parts


def feature_rank_constant(study: Study, activations: list[str]) -> list[Part]:
    """The feature rank changes by less than a tenth of the units; only where the error rises."""
    parts = []
    for a in activations:
        values = study.curve("feature_srank_{layer}", "end", activation=a)
        first, last = quarter(values, 0), quarter(values, 3)
        part = Part(
            a,
            (last - first).to_numpy(),
            (-3.2, 3.2),
            (-32.0, 32.0),
            1e-6,
            1,
            beside=f"{first.mean():.1f} to {last.mean():.1f}",
        )
        parts.append(premise_of(part, never_rises(study, activation=a)))
    return parts


def explanation_disagrees(study: Study, explanation: str, activations: list[str]) -> list[Part]:
    """Any activation loses plasticity while the measurement moves against its claim, or keeps it while it moves so."""
    column, sign = EARLIER[explanation]
    parts = []
    for a in activations:
        if not_learned(study, activation=a):
            continue
        lost = not never_rises(study, activation=a)
        kept = error_change(study, BELOW, activation=a)
        if lost:  # the error rises: disagrees where the explanation moves against its claim
            region = FELL if sign > 0 else ROSE
            parts.append(change(study, column, "end", region, f"{a} (loses)", activation=a))
        elif kept.inside and len(kept.seeds) >= 5 and kept.p < 0.05:  # disagrees where it moves as if there were loss
            region = ROSE if sign > 0 else FELL
            parts.append(change(study, column, "end", region, f"{a} (keeps)", activation=a))
    if not any("loses" in part.label for part in parts):
        why = "no activation loses plasticity"
        parts = [premise_of(part, why) for part in parts] or [Part("", np.array([]), failed=why)]
    return parts


def worst_has_least(study: Study, column: str, first: str, activations: list[str]) -> list[Part]:
    """In the last quarter, more error and less of the measurement than with each other activation."""
    parts = []
    for other in activations:
        one, two = {"activation": first, **NONE}, {"activation": other, **NONE}
        parts.append(compare(study, "error", "end", one, two, ROSE, f"error, {first} less {other}"))
        parts.append(compare(study, column, "end", one, two, FELL, f"{column}, {first} less {other}"))
    return [premise_of(part, never_rises(study, activation=first)) for part in parts]


def rank_falls(study: Study, activations: list[str], when: str = "start") -> list[Part]:
    """The stable rank falls from the first to the last quarter; only where the error rises."""
    return [
        premise_of(
            change(study, "hessian_srank", when, FELL, f"{a}: log2 of the rank changes by", activation=a),
            never_rises(study, activation=a),
        )
        for a in activations
    ]


def rank_comes(study: Study, activations: list[str], within: float, when: str = "start") -> list[Part]:
    """In true time, the rank is half-way down less than `within` tasks after the error is half-way up (0: before)."""
    return [lead(study, (-INFINITE, within), a, when, activation=a) for a in activations]


def rank_goes_with_error(study: Study, activations: list[str], direction: int = -1) -> list[Part]:
    """Spearman over tasks of the changes from task to task, within seeds, is below 0; only where the error rises."""
    return [goes_with(study, "hessian_srank", "start", direction, a, activation=a) for a in activations]


def update_norm_follows(study: Study, column: str, direction: int, activations: list[str]) -> list[Part]:
    """The same of the update norm of leaky ReLU, with the stated sign."""
    return [goes_with(study, column, "end", direction, a, "displacement_l1", activation=a) for a in activations]


def slopes_agree(study: Study, column: str, when: str, direction: int, activations: list[str]) -> list[Part]:
    """Slopes over tasks of the measurement on the error have the stated sign; only where the error rises."""
    region = ROSE if direction > 0 else FELL
    return [slope(study, column, when, region, a, activation=a) for a in activations]


def slopes_differ(study: Study, column: str, when: str, activations: list[str]) -> list[Part]:
    """Any slope has the sign opposite to the clearest one; only where the error rises."""
    parts = [slope(study, column, when, ROSE, a, activation=a) for a in activations]
    strongest = min(parts, key=lambda part: part.p if not part.undecidable else 1.0)
    region = FELL if strongest.mean > 0 else ROSE
    return [replace(part, region=region) for part in parts]


def overlap_high(study: Study, activations: list[str]) -> list[Part]:
    """The overlap at task end, in the last quarter, is above 0.8."""
    parts = []
    for a in activations:
        level = quarter(study.curve("hessian_overlap", "end", activation=a), 3)
        part = Part(a, level.to_numpy(), (0.8, INFINITE), DIFFERENCE, 1e-6)
        missing = level.isna().all()
        parts.append(replace(part, failed="overlap was not measured at task end" if missing else "", absent=missing))
    return parts


def settles_with_rank(study: Study, first: str) -> list[Part]:
    """From the third to the last quarter the update norm keeps within 25% and the rank at task end rises."""
    setting, still = {"activation": first}, float(np.log2(1.25))
    return [
        change(study, "displacement_l1", "end", (-still, still), "log2 of the update norm", (2, 3), **setting),
        change(study, "hessian_srank", "end", ROSE, "log2 of the rank at task end", (2, 3), **setting),
    ]


def no_clear_relation(study: Study) -> list[Part]:
    """Spearman over tasks of the two ranks, within seeds, is within 0.5 of 0 for any activation."""
    parts = []
    for a in study.values("activation"):
        features = study.curve("feature_srank_{layer}", "start", activation=a)
        found = correlations(features, study.curve("hessian_srank", "start", activation=a))
        count = features.shape[1]
        step = 12 / (count * (count**2 - 1))
        parts.append(Part(a, found.to_numpy(), (-0.5, 0.5), DIFFERENCE, step, 2))
    return parts
