#!/usr/bin/env python
"""Writes docs/paper.md: every experiment of the paper, what was run of it, and which of the text's statements hold.

Reads docs/results/*.parquet, files that `fastplast export` wrote, and the grids beside them. Usage: scripts/paper.py
[--figures], which also draws the figures anew.
"""

from __future__ import annotations

import argparse
import html
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import paper_statements as s

import fastplast as fp
from fastplast.drawing.captions import span

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
FIGURES = ROOT / "docs" / "figures" / "paper"


@dataclass(frozen=True)
class Experiment:
    """A row of the table.

    Attributes:
        section: of the paper.
        title: what is studied.
        figures: numbers that `fastplast figure` draws.
        study: name of the stored results.
        paper: the paper's scale.
        checks: what decides the text's statements.
        parts: names of the stored results that the study joins; none if it has its own.
    """

    section: str
    title: str
    figures: tuple[int, ...]
    study: str
    paper: str
    checks: tuple = ()
    parts: tuple[str, ...] = ()

    @property
    def sources(self) -> list[Path]:
        """Files of the stored results."""
        return [RESULTS / f"{name}.parquet" for name in self.parts or (self.study,)]


_MNIST = "30 seeds, 100 tasks of 16,000 updates"
EXPERIMENTS = (
    Experiment(
        "3", "Loss of plasticity, label-shuffled MNIST", (1, 2), "activations_mnist_shuffle", _MNIST,
        (s.plasticity_is_lost, s.earlier_explanations_fail),
    ),
    Experiment(
        "3", "Loss of plasticity, pixel-permuted MNIST", (2, 13, 14), "activations_mnist_permute", _MNIST,
        (s.plasticity_is_lost, s.earlier_explanations_fail),
    ),
    Experiment(
        "4", "Loss of curvature, label-shuffled MNIST", (3, 9), "activations_mnist_shuffle", _MNIST,
        (s.curvature_is_lost,),
    ),
    Experiment(
        "4", "Loss of curvature, pixel-permuted MNIST", (13,), "activations_mnist_permute", _MNIST,
        (s.curvature_is_lost,),
    ),
    Experiment(
        "4", "Label-shuffled CIFAR-10", (15, 16), "activations_cifar_shuffle", "30 seeds, 50 tasks of 16,000 updates",
        (s.plasticity_is_lost, s.curvature_is_lost),
    ),
    Experiment(
        "4", "Pixel-permuted CIFAR-10", (17, 18), "activations_cifar_permute", "30 seeds, 50 tasks of 16,000 updates",
        (s.plasticity_is_lost, s.curvature_is_lost),
    ),
    Experiment(
        "6.1", "Regularisers, label-shuffled MNIST", (4, 5), "regularisers_mnist_shuffle",
        "10 seeds, 100 tasks, 4 or 5 strengths", (s.regularisers_help,),
    ),
    Experiment(
        "6.1", "Sensitivity to the strength", (6,), "sensitivity_mnist_shuffle",
        "10 seeds, 100 tasks, 4 or 5 strengths, 3 step sizes", (s.wasserstein_is_robust,),
    ),
    Experiment(
        "6.1", "Regularisers, pixel-permuted MNIST", (19,), "regularisers_mnist_permute",
        "10 seeds, 100 tasks, 4 or 5 strengths", (s.regularisers_help,),
    ),
    Experiment(
        "6.1", "Regularisers, label-shuffled CIFAR-10", (20,), "regularisers_cifar_shuffle",
        "10 seeds, 50 tasks, 4 or 5 strengths", (s.regularisers_help,),
    ),
    Experiment(
        "6.1", "Regularisers, pixel-permuted CIFAR-10", (21,), "regularisers_cifar_permute",
        "10 seeds, 50 tasks, 4 or 5 strengths", (s.regularisers_help,),
    ),
    Experiment(
        "6.1", "Regularisers, the four problems", (8,), "regularisers", "10 seeds, 50 or 100 tasks",
        (s.curvature_goes_with_plasticity,),
        tuple(f"regularisers_{name}" for name in ("mnist_shuffle", "mnist_permute", "cifar_shuffle", "cifar_permute")),
    ),
    Experiment(
        "6.2", "Gradient and Hessian at task end", (7,), "activations_mnist_shuffle", _MNIST, (s.gradients_align,)
    ),
    Experiment(
        "C.1", "Update budget of a task", (10, 11), "update_budget", "several budgets", (s.longer_tasks_lose_sooner,)
    ),
    Experiment(
        "C.2", "Curvature at task end", (12,), "activations_mnist_shuffle", _MNIST, (s.curvature_at_task_end,)
    ),
    Experiment(
        "D", "Continual ImageNet, here on pairs of CIFAR-10's classes", (22, 23), "class_pairs_cifar10",
        "pairs of 1,000 classes", (s.plasticity_is_lost, s.curvature_is_lost),
    ),
    Experiment("D.4", "Sharpness", (24,), "activations_mnist_shuffle", _MNIST, (s.sharpness_fails,)),
    Experiment(
        "E", "12,800 examples", (25,), "examples_12800", "30 seeds, 100 tasks", (s.linear_fails_with_more_examples,)
    ),
    Experiment(
        "F", "A network of 13 layers", (26,), "depth", "30 seeds, 100 tasks",
        (s.plasticity_is_lost, s.curvature_is_lost),
    ),
)  # fmt: skip

_PREFACE = """\
# The paper on real data

What "Curvature explains loss of plasticity" (arXiv 2312.00246) studies, what of it was run here, and which statements
of its text hold. `scripts/paper.py` writes this page from the files in `docs/results/`. The grid beside each file made
it: `fastplast sweep --grid docs/results/NAME.toml`. Statements are in our words. Each has a 95% interval: it holds
(**yes**) where the whole interval is on the claimed side, does not hold (**no**) where the whole interval is on the
other side, and is *not decided at this scale* otherwise. Members are seeds, each with its own data, order and initial
weights. Intervals are Student's t over members: of a mean, or of differences by seed where settings are compared.
Figures have the numbers of `fastplast figure`.
"""


def main() -> None:
    """Writes the page, and the figures if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figures", action="store_true", help="draw the figures anew")
    if parser.parse_args().figures:
        draw()
    (ROOT / "docs" / "paper.md").write_text(page(), encoding="utf-8")


def page() -> str:
    """The page."""
    rows = [
        "| Section | Experiment | Paper | Run here | Command | Figures | Yes | No | Not decided |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    details = []
    for experiment in EXPERIMENTS:
        findings = [f for check in experiment.checks for f in check(table_of(experiment))] if ran(experiment) else []
        count = [sum(f.verdict == verdict for f in findings) for verdict in (s.YES, s.NO, s.OPEN)]
        numbers = ", ".join(_linked(n, experiment) for n in experiment.figures)
        here, command = ("not run", "; ".join(f"`fastplast figure {n}`" for n in experiment.figures[:1]))
        if ran(experiment):
            here, command = scale(table_of(experiment)), _command(experiment)
        cells = (experiment.section, experiment.title, experiment.paper, here, command, numbers)
        rows.append("| " + " | ".join((*cells, *(map(str, count) if findings else ("", "", "all")))) + " |")
        details += _details(experiment, findings)
    return "\n".join([_PREFACE, *rows, *details, ""])


def _details(experiment: Experiment, findings: list[s.Finding]) -> list[str]:
    if not findings:
        return []
    lines = ["", f"## {experiment.section} {experiment.title}", ""]
    for number in experiment.figures:
        if (file := _file(number, experiment)).exists():
            lines.append(f"![Figure {number}: {experiment.title}]({file.relative_to(ROOT / 'docs')})")
    lines += ["", "| Statement | Holds | Evidence |", "|---|---|---|"]
    marks = {s.YES: "**yes**", s.NO: "**no**", s.OPEN: "*not decided*"}
    lines += [f"| {html.escape(f.text, quote=False)} | {marks[f.verdict]} | {f.evidence} |" for f in findings]
    return lines


def ran(experiment: Experiment) -> bool:
    """Whether results of an experiment are stored."""
    return all(source.exists() for source in experiment.sources)


def table_of(experiment: Experiment) -> pd.DataFrame:
    """Stored metrics, members of all parts numbered on."""
    tables = [fp.load(source).metrics() for source in experiment.sources]
    before = 0
    for table in tables:
        table["member"] += before
        before = table["member"].max() + 1
    return pd.concat(tables, ignore_index=True)


def scale(table: pd.DataFrame) -> str:
    """What was run, in words."""
    members, seeds = table["member"].nunique(), table["seed"].nunique()
    tasks = span(table.groupby("benchmark")["task"].max() + 1, ",")
    updates = table.loc[table["when"] == "end", "updates"] // (table.loc[table["when"] == "end", "task"] + 1)
    return f"{members} members, {seeds} seeds, {tasks} tasks of {span(updates, ',')} updates"


def _command(experiment: Experiment) -> str:
    if experiment.parts:
        return "the sweeps above"
    return f"`fastplast sweep --grid docs/results/{experiment.study}.toml`"


def _file(number: int, experiment: Experiment) -> Path:
    return FIGURES / experiment.study / f"figure-{number:02d}.png"


def _linked(number: int, experiment: Experiment) -> str:
    file = _file(number, experiment)
    return f"[{number}]({file.relative_to(ROOT / 'docs')})" if file.exists() else str(number)


def draw() -> None:
    """Draws every figure whose results are stored."""
    from fastplast.paper import draw_figure, figure_of

    for experiment in EXPERIMENTS:
        if ran(experiment):
            for number in experiment.figures:
                draw_figure(figure_of(number), experiment.sources, out=FIGURES / experiment.study, formats=["png"])


if __name__ == "__main__":
    main()
