"""Statements and what every study that bears on them says of them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from paper_statements.inference import FEW, NO, NOT_RUN, OPEN, PREMISE, YES, Finding, Part, combine, holm
from paper_statements.rules import BY_ACTIVATION, RULES
from paper_statements.studies import Study

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

LIST = Path(__file__).with_name("statements.toml")
MIXED, IN_PART = "depends on the runs", "yes in part"


@dataclass(frozen=True)
class Statement:
    """A claiming sentence of the paper; ``statements.toml`` says what the fields mean."""

    id: str
    text: str
    kind: str = "claim"
    figure: str = ""
    rule: str = ""
    args: dict[str, Any] = field(default_factory=dict)
    on: dict[str, Any] = field(default_factory=dict)
    of: tuple[str, ...] = ()
    every: dict[str, list] = field(default_factory=dict)
    needs: str = ""
    otherwise: str = ""

    @property
    def section(self) -> str:
        """Of the paper; ``own`` is none of the paper's."""
        return self.id.split("-")[0] if "-" in self.id else self.id.split(".")[0]


@dataclass
class Row:
    """What one study says of a statement.

    Attributes:
        study: the runs.
        activation: of which it is decided; empty if the statement names them.
        finding: without correction.
        adjusted: its p value by Holm's method over all rows with a test.
    """

    study: Study
    activation: str
    finding: Finding
    adjusted: float = float("nan")

    @property
    def corrected(self) -> str:
        """The verdict after correction."""
        return self.finding.corrected(self.adjusted)


def read_statements(path: Path = LIST) -> list[Statement]:
    """The list, with its defaults filled in.

    Args:
        path: of the list.

    Returns:
        Statements in the order of the text.
    """
    listed = tomllib.loads(path.read_text(encoding="utf-8"))
    defaults = listed["defaults"]
    statements = []
    for entry in listed["statement"]:
        fields = {"args" if name == "with" else name: value for name, value in entry.items()}
        fields["on"] = {**defaults["on"], **fields.get("on", {})}
        fields["of"] = tuple(fields.get("of", ()))
        statements.append(Statement(**{"otherwise": defaults["otherwise"], **fields}))
    return statements


def kind_of(study: Study) -> str:
    """What a study varies."""
    if study.only("epochs") is None:
        return "budget"
    if study.values("method") == ["none"]:
        return "activations"
    return "sensitivity" if study.rows["strength"].nunique() > 4 else "regularisers"


def fact_of(study: Study, name: str) -> object:
    """What a statement may ask of a study: its kind, its step size, or the one value of a column."""
    return {"kind": kind_of, "rate": lambda s: s.rate}.get(name, lambda s: s.only(name))(study)


def bears(statement: Statement, study: Study) -> bool:
    """Whether a study has what a statement is about; one of several activations may be missing."""
    for name, wanted in statement.on.items():
        if fact_of(study, name) not in (wanted if isinstance(wanted, list) else [wanted]):
            return False
    if "first" in statement.args and not study.has(activation=statement.args["first"]):
        return False
    named = statement.args.get("activations", [])
    missing = [a for a in named if not study.has(activation=a)]
    return not named or len(missing) <= (len(named) > 1)


def decide(statement: Statement, study: Study) -> list[Row]:
    """The rows of a statement from one study."""
    args, named = dict(statement.args), statement.args.get("activations")
    rule = RULES[statement.rule]
    if named is None and statement.rule in BY_ACTIVATION:
        groups = [(a, {"activations": [a]}) for a in study.values("activation")]
    elif named is not None:
        groups = [("", {"activations": [a for a in named if study.has(activation=a)]})]
    else:
        groups = [("", {})]
    absent = [Part(a, np.array([]), failed="not run", absent=True) for a in named or [] if not study.has(activation=a)]
    rows = []
    for activation, chosen in groups:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # means of nothing: what was not measured has no value
            parts = rule.parts(study, **{**args, **chosen})
        if parts:
            rows.append(Row(study, activation, combine(parts + absent, rule.mode)))
    return rows


def decide_all(statements: Sequence[Statement], studies: Sequence[Study]) -> dict[str, list[Row]]:
    """Every statement's rows, with p values corrected over all of them.

    Args:
        statements: of the list.
        studies: of the stored results.

    Returns:
        Id to rows; none where nothing bears on it.
    """
    found = {
        s.id: [row for study in studies if bears(s, study) for row in decide(s, study)] if s.rule else []
        for s in statements
    }
    rows = [row for listed in found.values() for row in listed]
    for row, adjusted in zip(rows, holm([row.finding.p for row in rows])):
        row.adjusted = adjusted
    return found


def verdict_of(statement: Statement, rows: Sequence[Row], corrected: bool) -> str:
    """One verdict from those of several studies.

    Args:
        statement: what it is about; where ``every`` names several problems or step sizes, each must be decided.
        rows: of it.
        corrected: whether after Holm's correction.

    Returns:
        The verdict.
    """
    told = [(row, row.corrected if corrected else row.finding.verdict) for row in rows]
    kinds = {verdict for _, verdict in told}
    if {YES, NO} <= kinds:
        return MIXED
    if NO in kinds:
        return NO
    if YES in kinds:
        for name, values in statement.every.items():
            decided = {fact_of(row.study, name) for row, verdict in told if verdict == YES}
            if not set(values) <= decided:
                return IN_PART
        return YES
    return next((v for v in (OPEN, FEW, PREMISE, NOT_RUN) if v in kinds), NOT_RUN)


def verdicts(statements: Sequence[Statement], found: dict[str, list[Row]], corrected: bool) -> dict[str, str]:
    """Every statement's verdict: of its rows, or, of a summary, of what it sums up.

    Args:
        statements: of the list.
        found: id to rows.
        corrected: whether after Holm's correction.

    Returns:
        Id to verdict; the kind of those that are no claims.
    """
    by_id = {s.id: s for s in statements}

    def of(statement: Statement) -> str:
        if statement.kind == "summary":
            return summed([of(by_id[part]) for part in statement.of])
        return verdict_of(statement, found[statement.id], corrected) if statement.kind == "claim" else statement.kind

    return {s.id: of(s) for s in statements}


def summed(parts: Sequence[str]) -> str:
    """The verdict of a sentence that sums up others: no if one is, yes if all are.

    Args:
        parts: their verdicts.

    Returns:
        The verdict.
    """
    if NO in parts:
        return NO
    if set(parts) == {YES}:
        return YES
    if MIXED in parts:
        return MIXED
    return IN_PART if {YES, IN_PART} & set(parts) else next((v for v in (OPEN, FEW, PREMISE) if v in parts), NOT_RUN)
