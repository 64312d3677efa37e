#!/usr/bin/env python
"""Writes docs/methods_compared.md: what each method against plasticity loss preserves, and what it costs.

Reads docs/results/methods/*.parquet, files that `fastplast export` wrote, and bench/results/*/methods.json. Usage:
scripts/methods_compared.py
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd
from paper_statements.inference import INFINITE, NO, YES, Part
from paper_statements.measures import DIFFERENCE, UNIT, errors, log_ratio, not_learned, ranks
from paper_statements.studies import Study, quarter

import fastplast as fp
from fastplast.drawing.page import save, styled
from fastplast.drawing.settings import varying_fields
from fastplast.methods import METHODS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results" / "methods" / "mnist_shuffle.parquet"
COSTS = "bench/results/*/methods.json"
PAGE, FIGURE = ROOT / "docs" / "methods_compared.md", ROOT / "docs" / "figures" / "methods_compared.png"
RISE = (-INFINITE, 0.05)  # of the error, within which a network keeps learning
KEPT = (-1.0, INFINITE)  # log2 of the stable rank's ratio: at least half of it is left
STRENGTH_OF = {  # the hyperparameter that says how strong a method is
    "cbp": "cbp_rate", "redo": "redo_threshold", "snr": "snr_rate", "regrama": "regrama_threshold",
    "shrink_perturb": "shrink_perturb_shrink", "clip": "clip_bound", "upgd": "upgd_noise",
    "hare_tortoise": "hare_tortoise_every", "noise": "noise_size", "full_reset": "full_reset_every",
    "fire": "fire_every", "dash": "dash_least", "nap": "nap_every",
}  # fmt: skip
GROUPS = {
    (YES, YES): "Both preserved",
    (YES, NO): "Plasticity without curvature",
    (NO, YES): "Curvature without plasticity",
    (NO, NO): "Neither",
}
PREFACE = """\
# Methods compared

Methods on label-shuffled MNIST: {network}, {seeds} seeds, {tasks} tasks of {updates:,} updates of 16
examples, Adam at step size 1e-3 unless said, stable ranks of the exact two-layer Hessian at the start of every task.
The settings are those that the methods were published with, or the nearest that their papers name
([Methods](methods.md) says what each does). None was tuned here, and all were published for other problems: a method
that fails here may do better at another strength.

`scripts/methods_compared.py` writes this page from `{file}`, which was made by the grid beside it:

```bash
fastplast sweep --grid {grid} --out runs/methods
fastplast export runs/methods --out {file}
```

- **Error** is the misclassified share of a task's examples at its end, mean over the last quarter of tasks, with
  Student's 95% interval over seeds inside [0, 1].
- **Plasticity** is preserved (*yes*) if the interval of the rise of the error, from the first quarter of tasks to the
  last, lies below {rise:g}; it is lost (*no*) if the interval lies above. A network that never learned decides nothing.
- **Curvature** is preserved if at least half of the stable rank at task start is left: the interval of log2 of its
  ratio, last quarter to first without the initial weights, lies above -1; it is lost if the interval lies below.
- **Dormant** is the share of hidden units that are dormant at task end (ReDo's score at 0.1), **distance** the
  Euclidean distance from the initial parameters, both in the last quarter.
{cost}
Not in these results: {missing}.
"""
COST = """\
- **Cost** is the time of an update in units of one without a method, on the engine that trains it, `cpu` where
  its kernels do, where that was measured; methods that act at changes of task only cost nothing in updates.
"""


@dataclass(frozen=True)
class Setting:
    """One setting of a method, with its runs.

    Attributes:
        name: of the method, for people.
        words: its strength and what else is not a default.
        method: the field.
        study: its rows.
    """

    name: str
    words: str
    method: str
    study: Study

    @cached_property
    def error(self) -> Part:
        """In the last quarter of tasks."""
        return Part("error", quarter(errors(self.study), 3).to_numpy(), UNIT, UNIT, self.study.step)

    @cached_property
    def rise(self) -> Part:
        """Of the error, from the first quarter to the last."""
        values = errors(self.study)
        rise = (quarter(values, 3) - quarter(values, 0)).to_numpy()
        return Part("rise", rise, RISE, DIFFERENCE, self.study.step, failed=not_learned(self.study))

    @cached_property
    def rank(self) -> Part:
        """log2 of what is left of the stable rank."""
        values = ranks(self.study)
        left = log_ratio(quarter(values, 3), quarter(values, 0), "hessian_srank")
        return Part("rank", left.to_numpy(), KEPT, digits=2)

    def rank_in(self, number: int) -> float:
        """Mean stable rank in a quarter of tasks."""
        return float(quarter(ranks(self.study), number).mean())

    def last(self, column: str) -> float:
        """Mean of a column at task end in the last quarter."""
        return float(quarter(self.study.curve(column, "end"), 3).mean())

    @cached_property
    def verdicts(self) -> tuple[str, str]:
        """Of plasticity and of curvature."""
        return verdict(self.rise), verdict(self.rank)


def verdict(part: Part) -> str:
    """Where the interval of a number lies."""
    if part.undecidable:
        return part.undecidable
    if part.p >= 0.05:
        return "undecided"
    return YES if part.inside else NO


def main() -> None:
    """Writes the page and its figure."""
    settings = sorted(read(RESULTS), key=lambda one: one.error.mean)
    draw(settings)
    PAGE.write_text(page(settings, read_costs()), encoding="utf-8")


def read(path: Path) -> list[Setting]:
    """The settings of a file of results.

    Args:
        path: of the file.

    Returns:
        In the order of its members.
    """
    results, found = fp.load(path), []
    for _, part in results.metrics().groupby(varying_fields(results.members), dropna=False, sort=False):
        first = part.iloc[0]
        found.append(Setting(*words_of(first), str(first["method"]), Study(path.stem, first["learning_rate"], part)))
    return found


def plain_name(method: str) -> str:
    """Of a method with nothing beside it, for people."""
    return "no method" if method == "none" else method.replace("_", " ")


def words_of(row: pd.Series) -> tuple[str, str]:
    """Name and setting of a row, for people."""
    method, words = str(row["method"]), []
    name = plain_name(method)
    strength = STRENGTH_OF.get(method, "strength")
    if method != "none":
        words.append(f"{strength.removeprefix(method + '_').replace('_', ' ')} {row[strength]:g}")
    others = {
        "layer normalisation": bool(row["layer_norm"]),
        str(row["activation"]): row["activation"] != "relu",
        "decoupled weight decay": row["weight_decay"] > 0,
        "beta1 = beta2": row["beta1"] == row["beta2"],
    }
    if row["weight_decay"] > 0:
        words.append(f"weight decay {row['weight_decay']:g}")
    if row["beta1"] == row["beta2"]:
        words.append(f"both {row['beta1']:g}")
    if row["optimizer"] == "sgd":
        words.append(f"step size {row['learning_rate']:g}")
    besides = [name for name, is_so in others.items() if is_so]
    if besides:
        name = " + ".join(besides if method == "none" else [name, *besides])
    return name, ", ".join(words) or "-"


def read_costs() -> dict[str, float]:
    """Method to the time of its updates, in units of one without a method: of the last file by name that there is."""
    files, costs = sorted(ROOT.glob(COSTS)), {}
    benches = json.loads(files[-1].read_text(encoding="utf-8"))["benchmarks"] if files else []
    for engine in ("vmap", "cpu"):  # the second is what trains a method that both have
        for bench in benches:
            if bench["name"] == f"test_beside_plain_training[{engine}]":
                times = bench["extra_info"]["us"]
                costs |= {name: time / times["none"] for name, time in times.items()}
    return costs


def page(settings: Sequence[Setting], costs: dict[str, float]) -> str:
    """The page, in Markdown."""
    study = settings[0].study
    ends = study.rows[study.rows["when"] == "end"]
    lines = [
        PREFACE.format(
            network=f"{study.only('network')}, ReLU unless said",
            seeds=study.rows["seed"].nunique(),
            tasks=ends["task"].nunique(),
            updates=int((ends["updates"] // (ends["task"] + 1)).max()),
            file=RESULTS.relative_to(ROOT),
            grid=RESULTS.with_suffix(".toml").relative_to(ROOT),
            rise=RISE[1],
            cost=COST if costs else "",
            missing=listed(sorted({*METHODS} - {one.method for one in settings})),
        )
    ]
    lines += ["## What is preserved", "", *groups(settings), f"![Methods compared](figures/{FIGURE.name})", ""]
    lines += ["## All settings", "", "In the order of their errors.", ""]
    columns = ["Method", "Setting", "Error", "Rank", "Dormant", "Distance"]
    columns += ["Cost"] * bool(costs) + ["Plasticity", "Curvature"]
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *(row_of(one, costs) for one in settings), ""]
    return "\n".join(lines)


def groups(settings: Sequence[Setting]) -> list[str]:
    """Which methods preserve what."""
    lines = []
    for verdicts, title in GROUPS.items():
        lines += [f"- **{title}:** {listed(one.name for one in settings if one.verdicts == verdicts)}."]
    rest = [f"{one.name} (plasticity {one.verdicts[0]}, curvature {one.verdicts[1]})"
            for one in settings if one.verdicts not in GROUPS]  # fmt: skip
    return [*lines, f"- **Undecided:** {listed(rest)}.", ""]


def listed(names: Iterable[str]) -> str:
    """Names, separated; a word if there are none."""
    return ", ".join(dict.fromkeys(names)) or "nothing here"


def row_of(one: Setting, costs: dict[str, float]) -> str:
    """A line of the table."""
    low, high = one.error.interval
    cells = [
        one.name, one.words, f"{one.error.mean:.3f} [{low:.3f}, {high:.3f}]",
        f"{one.rank_in(0):.0f} to {one.rank_in(3):.0f}", f"{one.last('dormant_fraction'):.2f}",
        f"{one.last('init_distance_l2'):.1f}",
    ]  # fmt: skip
    if costs:
        is_measured = one.method in costs and one.name == plain_name(one.method)
        cells.append(f"{costs[one.method]:.2f}" if is_measured else "")
    cells += one.verdicts
    return "| " + " | ".join(cells) + " |"


def draw(settings: Sequence[Setting]) -> None:
    """Error and rank of every setting, with their intervals."""
    import matplotlib.pyplot as plt

    with styled():
        figure, (left, right) = plt.subplots(1, 2, sharey=True, figsize=(9, 1.2 + 0.25 * len(settings)))
        for y, one in enumerate(settings):
            for axes, part in ((left, one.error), (right, one.rank)):
                low, high = part.interval
                colour = "C1" if one.name == "no method" else "C0"
                axes.plot([low, high], [y, y], color=colour, linewidth=1.5)
                axes.plot(part.mean, y, "o", color=colour, markersize=4)
        names = [f"{one.name}  ({one.words})" if one.words != "-" else one.name for one in settings]
        left.set_yticks(range(len(settings)), names)
        left.invert_yaxis()
        left.set_xlabel("Error at task end, last quarter of tasks")
        right.axvline(KEPT[0], color="0.6", linewidth=0.8, linestyle="--")
        right.set_xlabel("log2 of what is left of the stable rank at task start")
        figure.tight_layout()
        FIGURE.parent.mkdir(exist_ok=True)
        save(figure, [FIGURE])
        plt.close(figure)


if __name__ == "__main__":
    main()
