"""Rules about regularisers: each beside none, and beside another at the same reduction and strength."""

from __future__ import annotations

from paper_statements.inference import Part
from paper_statements.measures import (
    DIFFERENCE,
    FELL,
    LOST,
    ROSE,
    compare,
    correlations,
    errors,
    late,
    never_rises,
    premise_of,
)
from paper_statements.studies import SETTING, Study, common

NONE = {"method": "none"}


def settings_of(study: Study, method: str, activation: str) -> list[dict]:
    """The settings of a method that were run, strongest mean first."""
    rows = study.of(method=method, activation=activation)
    found = rows[SETTING].drop_duplicates().sort_values(["reduction", "strength"], ascending=[True, False])
    return found.to_dict("records")


def name_of(setting: dict) -> str:
    """A setting in words."""
    return f"{setting['method']} {setting['reduction']} {setting['strength']:g}"


def mitigates(study: Study, methods: list[str], activations: list[str]) -> list[Part]:
    """Less error than without, in the last quarter, at any setting; only where it rises without."""
    parts = []
    for a in activations:
        base = {"activation": a, **NONE}
        for setting in (s for m in methods for s in settings_of(study, m, a)):
            part = compare(study, "error", "end", setting, base, FELL, f"{a}, {name_of(setting)}")
            parts.append(premise_of(part, never_rises(study, **base)))
    return parts


def preserves(study: Study, methods: list[str], activations: list[str]) -> list[Part]:
    """A greater stable rank than without, in the last quarter, at any setting; only where the error rises without."""
    parts = []
    for a in activations:
        base = {"activation": a, **NONE}
        failed = never_rises(study, **base)
        for setting in (s for m in methods for s in settings_of(study, m, a)):
            part = compare(study, "hessian_srank", "start", setting, base, ROSE, f"{a}, {name_of(setting)}")
            parts.append(premise_of(part, failed))
    return parts


def method_vs_none(study: Study, column: str, methods: list[str], direction: int, activations: list[str]) -> list[Part]:
    """The measurement differs from that without in the stated direction, in the last quarter, at every setting."""
    region = ROSE if direction > 0 else FELL
    return [
        compare(study, column, "end", setting, {"activation": a, **NONE}, region, f"{a}, {name_of(setting)}")
        for a in activations
        for method in methods
        for setting in settings_of(study, method, a)
    ]


def method_beside(
    study: Study, column: str, method: str, others: list[str], direction: int, activations: list[str],
    margin: float = 0.0,
) -> list[Part]:  # fmt: skip
    """A method beside others at the same reduction and strength; within a margin if there is one."""
    parts, region = [], ROSE if direction > 0 else FELL
    for a in activations:
        for setting in settings_of(study, method, a):
            for other in others:
                twin = {**setting, "method": other}
                if study.has(**twin):
                    label = f"{a}, {name_of(setting)} less {other}"
                    where = (-margin, margin) if margin else region
                    part = compare(study, column, "end", setting, twin, where, label)
                    base = {"activation": a, **NONE}
                    parts.append(premise_of(part, never_rises(study, **base) if column == "error" else ""))
    return parts


def unsteadier(study: Study, method: str, others: list[str], activations: list[str]) -> list[Part]:
    """The error changes more from task to task than with another method at the same reduction and strength."""
    parts = []
    for a in activations:
        failed = never_rises(study, activation=a, **NONE)
        for setting in settings_of(study, method, a):
            for twin in ({**setting, "method": other} for other in others):
                if not study.has(**twin):
                    continue
                one, two = (
                    t.diff(axis=1).abs().mean(axis=1) for t in common([errors(study, **setting), errors(study, **twin)])
                )
                label = f"{a}, {name_of(setting)} less {twin['method']}"
                part = Part(
                    label,
                    (one - two).to_numpy(),
                    ROSE,
                    DIFFERENCE,
                    study.step,
                    beside=f"{one.mean():.3f} against {two.mean():.3f}",
                )
                parts.append(premise_of(part, failed))
    return parts


def works_over_more(study: Study, others: list[str], activations: list[str]) -> list[Part]:
    """More strengths halve the error in the last quarter than of another method."""
    parts = []
    for a in activations:
        base = {"activation": a, **NONE}
        for reduction in [r for r in ("mean", "sum") if study.has(activation=a, reduction=r, method="wasserstein")]:
            counts = {}
            for method in ("wasserstein", *others):
                settings = [s for s in settings_of(study, method, a) if s["reduction"] == reduction]
                if len(settings) < 3:
                    return []
                none, *found = late(study, "error", "end", [base, *settings])
                counts[method] = sum((error < none / 2).astype(float) for error in found)
            for other in others:
                values = counts["wasserstein"] - counts[other]
                label = f"{a}, {reduction}: strengths more than {other}"
                beside = f"{counts['wasserstein'].mean():.1f} against {counts[other].mean():.1f} of {len(found)}"
                parts.append(Part(label, values.to_numpy(), ROSE, None, 1.0, 1, never_rises(study, **base), beside))
    return parts


def lower_over_strengths(study: Study, others: list[str], activations: list[str]) -> list[Part]:
    """The error in the last quarter, averaged over all strengths, is below that of another method."""
    parts = []
    for a in activations:
        failed = never_rises(study, activation=a, **NONE)
        for reduction in [r for r in ("mean", "sum") if study.has(activation=a, reduction=r, method="wasserstein")]:
            means = {}
            for method in ("wasserstein", *others):
                settings = [s for s in settings_of(study, method, a) if s["reduction"] == reduction]
                means[method] = sum(late(study, "error", "end", settings)) / len(settings)
            for other in others:
                values, beside = (
                    means["wasserstein"] - means[other],
                    f"{means['wasserstein'].mean():.3f} against {means[other].mean():.3f}",
                )
                label = f"{a}, {reduction}: less {other}"
                parts.append(Part(label, values.to_numpy(), FELL, DIFFERENCE, study.step, 3, failed, beside))
    return parts


def settings_correlate(study: Study) -> list[Part]:
    """Each seed's Spearman over methods and strengths of mean rank and mean error, from task 1 on, is below 0."""
    rows = study.rows[(study.rows["activation"] == "relu") & (study.rows["task"] > 0)]
    key = ["seed", "method", "reduction", "strength"]
    rank = rows[rows["when"] == "start"].groupby(key)["hessian_srank"].mean().unstack("seed").T
    error = rows[rows["when"] == "end"].groupby(key)["error"].mean().unstack("seed").T
    count, most = rank.shape[1], float(error.to_numpy().max())
    failed = "" if most > LOST else f"no setting loses plasticity: mean errors up to {most:.3f}"
    step, beside = 12 / (count * (count**2 - 1)), f"over {count} settings"
    return [Part("Spearman", correlations(rank, error).to_numpy(), FELL, DIFFERENCE, step, 2, failed, beside)]
