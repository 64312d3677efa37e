"""Rules about budgets of updates, the online error, and networks beside the linear one."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np

from paper_statements.inference import ALPHA, INFINITE, Part
from paper_statements.measures import (
    DIFFERENCE,
    FELL,
    LOST,
    ROSE,
    UNIT,
    change,
    compare,
    error_change,
    errors,
    never_rises,
    onset,
    premise_of,
)
from paper_statements.of_regularisers import NONE, name_of
from paper_statements.studies import SETTING, Study, common, quarter


def by_epochs(study: Study) -> list[tuple[int, dict]]:
    """The budgets of updates that were run."""
    return [(int(epochs), {"epochs": epochs}) for epochs in sorted(study.values("epochs"))]


def budget_delays_little(study: Study) -> list[Part]:
    """From the fewest epochs to the most, the first task that ends above 0.1 moves by less than two."""
    (few, least), *_, (many, most) = by_epochs(study)
    a, b = common([errors(study, **least), errors(study, **most)])
    beside = ", ".join(f"{n} epochs {onset(errors(study, **s)).mean():.1f}" for n, s in by_epochs(study))
    label = f"onset with {many} epochs less that with {few}"
    return [Part(label, (onset(b) - onset(a)).to_numpy(), (-2.0, 2.0), None, 1.0, 1, beside=beside)]


def budget_loses(study: Study) -> list[Part]:
    """The error rises with every number of epochs."""
    return [error_change(study, ROSE, f"{epochs} epochs", **setting) for epochs, setting in by_epochs(study)]


def budget_rank_falls(study: Study) -> list[Part]:
    """The stable rank falls with every number of epochs; only where the error rises."""
    return [
        premise_of(change(study, "hessian_srank", "start", FELL, f"{n} epochs", **s), never_rises(study, **s))
        for n, s in by_epochs(study)
    ]


def online_rises_alone(study: Study, first: str) -> list[Part]:
    """The online error rises while that at task end rises by less than 0.05."""
    online = study.curve("online_error", "end", activation=first)
    more = Part(
        "online error rises by", (quarter(online, 3) - quarter(online, 0)).to_numpy(), ROSE, DIFFERENCE, study.step
    )
    return [more, error_change(study, (-INFINITE, 0.05), "error at task end by", activation=first)]


def _pairs(study: Study) -> list[tuple[str, dict, dict]]:
    """Settings two by two."""
    settings = study.rows[SETTING].drop_duplicates().to_dict("records")
    return [
        (f"{one['activation']} {name_of(one)} less {two['activation']} {name_of(two)}", one, two)
        for one, two in combinations(settings, 2)
    ]


def _certainly(part: Part) -> bool:
    """Whether a part holds at 5% by itself."""
    return not part.undecidable and part.inside and part.p < ALPHA


def same_end_other_online(study: Study) -> list[Part]:
    """Any two settings that end within 0.02 and start more than 0.02 apart differ in online error likewise."""
    parts = []
    for name, one, two in _pairs(study):
        if not _certainly(compare(study, "error", "end", one, two, (-0.02, 0.02), name)):
            continue
        for first, second in ((one, two), (two, one)):
            if _certainly(compare(study, "error", "start", first, second, (0.02, INFINITE), name)):
                parts.append(compare(study, "online_error", "end", first, second, ROSE, f"online error, {name}"))
    return parts or [Part("", np.array([]), failed="no two settings end within 0.02 and start more than 0.02 apart")]


def same_online_other_end(study: Study) -> list[Part]:
    """Any two settings with online errors within 0.05 of each other, not alike at task end, differ in error there."""
    parts = []
    for name, one, two in _pairs(study):
        if _certainly(compare(study, "online_error", "end", one, two, (-0.05, 0.05), name)):
            part = compare(study, "error", "end", one, two, ROSE, f"error at task end, {name}")
            alike = "" if (abs(part.seeds) >= study.step).any() else "every seed ends alike"
            parts.append(premise_of(part if part.mean > 0 else replace(part, region=FELL), alike))
    return parts or [Part("", np.array([]), failed="no two settings have online errors within 0.05")]


def first_task(study: Study, first: str, activations: list[str]) -> list[Part]:
    """The error at the end of task 0 is below the linear network's."""
    parts = []
    linear = errors(study, activation=first)
    for a in activations:
        own, its = common([errors(study, activation=a), linear])
        difference, beside = (
            own.iloc[:, 0] - its.iloc[:, 0],
            f"{own.iloc[:, 0].mean():.3f} against {its.iloc[:, 0].mean():.3f}",
        )
        parts.append(Part(f"{a} less {first}", difference.to_numpy(), FELL, DIFFERENCE, study.step, beside=beside))
    return parts


def worse_than_linear(study: Study, first: str, activations: list[str]) -> list[Part]:
    """The error in the last quarter is above the linear network's."""
    linear = {"activation": first, **NONE}
    return [
        compare(study, "error", "end", {"activation": a, **NONE}, linear, ROSE, f"{a} less {first}")
        for a in activations
    ]


def linear_cannot(study: Study, first: str) -> list[Part]:
    """The error of the linear network at the end of task 0 is above 0.1."""
    first = errors(study, activation=first).iloc[:, 0]
    return [Part("error at the end of task 0", first.to_numpy(), (LOST, INFINITE), UNIT, study.step)]
