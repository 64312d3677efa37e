#!/usr/bin/env python
"""Writes docs/paper.md: every statement of the paper, and what the stored results say of it.

Reads docs/results/*.parquet, files that `fastplast export` wrote, and scripts/paper_statements/statements.toml. Usage:
scripts/paper.py [--figures], which also draws the paper's figures anew.
"""

from __future__ import annotations

import argparse
import html
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from paper_statements.decide import IN_PART, MIXED, Row, Statement, decide_all, read_statements, verdicts
from paper_statements.inference import FEW, NO, NOT_RUN, OPEN, PREMISE, YES, Part
from paper_statements.rules import RULES
from paper_statements.studies import Study, load_studies

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
FIGURES = ROOT / "docs" / "figures" / "paper"
MOST_PARTS = 8  # numbers of a row that are all shown

SECTIONS = {
    "2": "Factors and earlier explanations",
    "3": "Counter-examples to earlier explanations",
    "4": "Measuring curvature",
    "5": "Preserving curvature",
    "6.0": "Experiments",
    "6.1": "Does loss of curvature explain loss of plasticity?",
    "6.2": "How does loss of curvature affect learning?",
    "6.3": "Can regularisation preserve curvature?",
    "7": "Discussion",
    "A": "Counter-examples, further analysis",
    "A.1": "Correlation plots",
    "B": "Experimental details",
    "C.1": "Update budget",
    "C.2": "Effect on updates",
    "C.3": "Weight decay on CIFAR-10",
    "C.4": "Online error",
    "C.5": "Sensitivity to the strength",
    "D.1": "Continual ImageNet: regularisers",
    "D.2": "Continual ImageNet: modifications of the network",
    "D.3": "Continual ImageNet: rank and error",
    "D.4": "Continual ImageNet: sharpness",
    "D.5": "Continual ImageNet: learning curves",
    "E": "12,800 examples",
    "F": "A network of 13 hidden layers",
    "own": "Of our own: problems and questions that the paper does not have",
}
MEANINGS = {
    YES: "the interval lies where the statement says",
    IN_PART: "yes for some of the problems or step sizes that it names, undecided for the others",
    MIXED: "yes by some runs, no by others",
    NO: "the interval lies wholly elsewhere",
    OPEN: "the interval lies on both sides",
    FEW: "fewer than 5 seeds: an estimate, no interval",
    PREMISE: "the runs lack what the statement presupposes: a network that learned, an error that rises",
    NOT_RUN: "no stored results bear on it",
}
PREFACE = """\
# The paper on real data

Every statement of "Curvature explains loss of plasticity" (arXiv 2312.00246), sections 2 to 7 and appendices A to F, in
our words, and what the results stored here say of it. `scripts/paper.py` writes this page;
`scripts/paper_statements/statements.toml` lists the statements and [the rules](#rules) that decide them;
`scripts/paper_check.py` computes every number anew without either.

- **Seeds are the unit.** A number is the mean over seeds of one value a seed, settings are compared seed by seed, and
  the interval is Student's 95%. What has bounds (errors and their differences, overlaps, correlations) has it on the
  logit scale between them, so that no end passes what is possible.
- **Fewer than 5 seeds** give an estimate, in how many seeds it is as claimed, and no verdict: even if all agree, an
  exact sign test of 4 has p = 0.125.
- **Yes** needs the whole interval where the statement says, **no** the whole interval elsewhere; the two exclude each
  other. A statement of several activations holds if each does (greatest p); it fails if one does (least p, Bonferroni).
- **Corrected** verdicts have p values by Holm's method over all {tests} rows with a test.
- **Time** is true time: what is measured at the start of task k is of time k, at its end of time k + 1.
- Stable ranks and update norms change by factors: log2 of the ratio of the last quarter of tasks to the first. The
  *update norm* is the mean absolute displacement of a task ([Metrics](metrics.md#how-far-weights-go)).
"""


def main() -> None:
    """Writes the page, and the figures if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures", action="store_true", help="draw the figures anew")
    statements, studies = read_statements(), load_studies(RESULTS)
    found = decide_all(statements, studies)
    if parser.parse_args().figures:
        draw()
    (ROOT / "docs" / "paper.md").write_text(page(statements, studies, found), encoding="utf-8")


def page(statements: Sequence[Statement], studies: Sequence[Study], found: dict[str, list[Row]]) -> str:
    """The page.

    Args:
        statements: of the list.
        studies: of the stored results.
        found: id to rows.

    Returns:
        Markdown.
    """
    plain, corrected = (verdicts(statements, found, flag) for flag in (False, True))
    tests = sum(row.finding.p == row.finding.p for rows in found.values() for row in rows)
    lines = [PREFACE.format(tests=tests), *summary(statements, plain, corrected), *runs(studies)]
    for section, title in SECTIONS.items():
        listed = [s for s in statements if s.section == section]
        lines += ["", f"## {title}" if section == "own" else f"## {section} {title}", ""]
        lines += ["| | Statement | Figure | Runs | Holds | Corrected | Evidence |", "|---|---|---|---|---|---|---|"]
        for s in listed:
            lines += rows_of(s, found[s.id], plain[s.id], corrected[s.id])
        lines += otherwise(listed, found, plain, studies) + pictures(listed)
    lines += ["", "## Rules", "", "| Rule | A statement holds if |", "|---|---|"]
    lines += [f"| `{name}` | {html.escape(rule.words, quote=False)} |" for name, rule in RULES.items()]
    return "\n".join([*lines, ""])


def summary(statements: Sequence[Statement], plain: dict[str, str], corrected: dict[str, str]) -> list[str]:
    """How many statements have which verdict."""
    ours = [s.id for s in statements if s.section == "own"]
    claims = [s.id for s in statements if s.kind in ("claim", "summary") and s.id not in ours]
    counts = [Counter(table[name] for name in claims) for table in (plain, corrected)]
    kinds = Counter(s.kind for s in statements if s.kind not in ("claim", "summary"))
    others = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    lines = ["## Summary", "", "| Verdict | Statements | Corrected | |", "|---|---|---|---|"]
    lines += [f"| {name} | {counts[0][name]} | {counts[1][name]} | {words} |" for name, words in MEANINGS.items()]
    lines += [f"| all | {len(claims)} | {len(claims)} | of the paper |", ""]
    return [*lines, f"Besides, {sum(kinds.values())} sentences claim nothing that runs could decide: {others}.", ""]


def runs(studies: Sequence[Study]) -> list[str]:
    """What was run."""
    lines = [
        "## Runs",
        "",
        "Each file was made by the grid beside it: `fastplast sweep --grid docs/results/NAME.toml`.",
        "",
    ]
    lines += [
        "| File | Problem | Network | Step size | Seeds | Tasks | Updates a task | Compared |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for study in studies:
        ends = study.rows[study.rows["when"] == "end"]
        tasks = ends.groupby("member")["task"].nunique()
        updates = sorted({int(u) for u in ends["updates"] // (ends["task"] + 1) if u > 0})
        network = f"{study.only('network')} {widths}" if (widths := study.only("widths")) else study.only("network")
        compared = ", ".join(study.values("activation")) + "".join(_varied(study))
        cells = (
            f"`{study.name}`", f"{study.only('benchmark')}, {int(study.rows['examples'].iloc[0]):,} examples", network,
            f"{study.rate:g}", study.rows["seed"].nunique(), _span(tasks), _span(updates), compared,
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _varied(study: Study) -> list[str]:
    regularised = study.rows[study.rows["method"] != "none"]
    words = []
    if len(regularised):
        settings = sorted({f"{r} {s:g}" for r, s in zip(regularised["reduction"], regularised["strength"])})
        words.append(f"; {', '.join(study.values('method'))} ({', '.join(settings)})")
    if study.only("epochs") is None:
        words.append(f"; epochs {', '.join(map(str, sorted(study.values('epochs'))))}")
    return words


def _span(values: Sequence[int]) -> str:
    least, most = min(values), max(values)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def rows_of(statement: Statement, rows: Sequence[Row], plain: str, corrected: str) -> list[str]:
    """The lines of the table that a statement has: one for each study that bears on it."""
    head = f"| {statement.id} | {html.escape(statement.text, quote=False)} | {statement.figure}"
    if statement.kind == "summary":
        return [f"{head} | | {_mark(plain)} | {_mark(corrected)} | sums up {', '.join(statement.of)} |"]
    if statement.kind != "claim":
        return [f"{head} | | {statement.kind} | | {'needs ' + statement.needs if statement.needs else ''} |"]
    if not rows:
        return [f"{head} | | {NOT_RUN} | | needs {statement.needs} |"]
    lines = []
    for row in rows:
        name = f"`{row.study.name}`, {row.study.rate:g}" + (f", {row.activation}" if row.activation else "")
        p = f" (p {row.adjusted:.2g})" if row.finding.p == row.finding.p else ""
        cells = (name, _mark(row.finding.verdict), _mark(row.corrected) + p, evidence(row.finding.parts))
        lines.append(f"{head} | {' | '.join(cells)} |")
        head = "| | | "
    if plain in (IN_PART, MIXED):
        lines.append(f"{head} | together | {_mark(plain)} | {_mark(corrected)} | |")
    return lines


def _mark(verdict: str) -> str:
    return f"**{verdict}**" if verdict in (YES, NO, IN_PART, MIXED) else f"*{verdict}*"


def evidence(parts: Sequence[Part]) -> str:
    """The numbers of a row: all, or of many the clearest."""
    reasons = {part.failed for part in parts}
    if len(reasons) == 1 and (reason := reasons.pop()):
        return reason
    if len(parts) <= MOST_PARTS:
        return "; ".join(map(str, parts))
    clearest = sorted(parts, key=lambda part: part.p if not part.undecidable else 1.0)[: MOST_PARTS // 2]
    return f"of {len(parts)} the clearest: " + "; ".join(map(str, clearest))


def otherwise(
    listed: Sequence[Statement], found: dict[str, list[Row]], plain: dict[str, str], studies: Sequence[Study]
) -> list[str]:
    """Where a statement fails: which of the paper's open settings could make the difference, and which were tried."""
    lines = []
    for s in listed:
        against = [row for row in found[s.id] if row.finding.verdict == NO]
        if s.kind == "claim" and against:
            problems = {row.study.only("benchmark") for row in found[s.id]}
            near = [t for t in studies if t.only("benchmark") in problems and t.only("examples") == 1280]
            settings = sorted(
                {f"{r} {v:g}" for t in near for r, v in zip(t.rows["reduction"], t.rows["strength"]) if v}
            )
            lines.append(
                f"- {s.id}: a yes would need {s.otherwise}. Tried: step sizes {_listed(f'{t.rate:g}' for t in near)}; "
                f"initialisation {_listed(i for t in near for i in t.values('init'))}"
                + (f"; strengths {', '.join(settings)}." if "strength" in s.otherwise else ".")
            )
    return ["", "What the paper leaves open, where the answer here is no:", "", *lines] if lines else []


def _listed(values: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def pictures(listed: Sequence[Statement]) -> list[str]:
    """The figures of a section that are drawn."""
    numbers = sorted({int(n) for s in listed for n in s.figure.split(",") if n.strip()})
    files = [FIGURES / f"figure-{n:02d}.png" for n in numbers]
    return [line for f in files if f.exists() for line in ("", f"![Figure {int(f.stem[-2:])}](figures/paper/{f.name})")]


def draw() -> None:
    """Draws every figure of the paper for which the stored results suffice."""
    from fastplast.paper import make, registry

    sources = sorted(RESULTS.glob("*.parquet"))
    for number, figure in registry.FIGURES.items():
        if isinstance(number, int):
            try:
                make.draw_figure(figure, sources, out=FIGURES, formats=["png"])
            except ValueError as error:
                print(f"figure {number} is not drawn: {error}")


if __name__ == "__main__":
    main()
