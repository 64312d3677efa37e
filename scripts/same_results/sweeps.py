"""Sweeps, whole, in slices, extended and from a file, and the statistics over one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fastplast as fp

from .digests import Entries, add_table, command, digest, value_digest

GRID: dict[str, Any] = {"method": ["none", "l2", "regenerative", "wasserstein"], "strength": [0.1, 0.0]}
GRID |= {"learning_rate": [1e-2, 1e-3], "seeds": 2, "activation": ["relu", "tanh"], "tasks": 2, "epochs": 1}
GRID |= {"examples": 48, "widths": [6, 5, 4], "threads": 1}
TOML = """\
benchmark = "mnist_shuffle"
activation = ["leaky_relu", "identity"]
seeds = 2
tasks = 2
epochs = 1
examples = 48
widths = [[6, 5, 4], [8, 6]]
threads = 1
epoch-curves = true

[[cross]]
method = "none"

[[cross]]
method = ["l2", "wasserstein"]
strength = [0.1, 0.01]
learning-rate = 1e-2
"""


def add_sweep(entries: Entries, name: str, sweep: Any) -> None:
    """Everything that a sweep left and reads.

    Args:
        entries: to add to.
        name: of the sweep.
        sweep: a reader.
    """
    add_table(entries, f"{name}/metrics", sweep.metrics("arrow"))
    entries[f"{name}/members"] = value_digest(sweep.members)
    entries[f"{name}/ids"] = digest(" ".join(sweep.members["id"]))
    entries[f"{name}/definitions"] = digest(json.dumps(sweep.definitions))
    for when in ("start", "end"):
        if any((shard.path / "spectra" / f"task-00001-{when}.npz").exists() for shard in sweep.shards):
            entries[f"{name}/spectra/{when}"] = value_digest(sweep.spectra(1, when))
    if any(shard.has_epochs for shard in sweep.shards):
        add_table(entries, f"{name}/epochs", sweep.epochs("arrow"))
    entries[f"{name}/shards"] = " ".join(shard.path.name for shard in sweep.shards)
    for number, shard in enumerate(sweep.shards):
        entries[f"{name}/config/{number}"] = digest(json.dumps(shard.config))
    entries[f"{name}/of Sweep"] = f"{sweep!r} {sweep.is_finished}"
    for root in sweep.paths:
        files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())
        entries[f"{name}/files/{root.name}"] = digest(" ".join(files))
        entries[f"{name}/request/{root.name}"] = (root / "grid.json").read_text(encoding="utf-8")


def grids(entries: Entries) -> None:
    """Sweeps in Python and on the command line; --memory is given, so that free memory decides nothing."""
    add_sweep(entries, "whole", fp.sweep(GRID, "whole", memory=1))
    for part in (0, 1):
        fp.sweep(GRID, "slices", memory=1, part=(part, 2))
        add_sweep(entries, f"slice {part} of 2", fp.sweep(GRID, f"slice-{part}", memory=1, part=(part, 2)))
    add_sweep(entries, "slices in one directory", fp.load("slices"))
    add_sweep(entries, "slices in two directories", fp.load("slice-0", "slice-1"))
    add_sweep(entries, "batches of 15", fp.sweep(GRID, "batches", batch=15, memory=1))
    small = {name: value for name, value in GRID.items() if name not in ("method", "strength")} | {"activation": "tanh"}
    fp.sweep(small | {"seeds": [1]}, "extended", memory=1)
    add_sweep(entries, "extended", fp.sweep(small | {"tasks": 3}, "extended", memory=1))
    crosses = [small | {"seeds": 1}, small | {"optimizer": ["sgd", "adamw"], "weight_decay": [0.1, 0.0], "seeds": 1}]
    add_sweep(entries, "two crosses", fp.sweep(crosses, "crosses", memory=1))

    Path("grid.toml").write_text(TOML, encoding="utf-8")
    words = ("sweep", "--grid", "grid.toml", "--out", "typed", "--memory", "1", "--seeds", "3,4")
    entries["typed/first slice"] = command(*words, "--quiet", "--shard", "0/2").text
    entries["typed/whole"] = _plan(command(*words).out)
    entries["typed/again"] = command(*words).text
    add_sweep(entries, "typed", fp.load("typed"))
    entries["typed/status"] = _states(command("status", "typed").out)
    command(*words[:-2], "--seeds", "5", "--quiet", "--shard", "1/3")
    entries["typed/resumed"] = command("resume", "typed", "--quiet").text
    add_table(entries, "typed/resumed", fp.load("typed").metrics("arrow"))


def _plan(text: str) -> str:
    """The lines before training; what follows tells rates."""
    return "\n".join(
        line for line in text.splitlines() if line.split(" ")[0] in ("sweep", "members", "groups", "shards")
    )


def _states(text: str) -> str:
    """Shards and their states: the other cells have bytes of files with times in them."""
    return "\n".join(" ".join(line.split()[:4]) for line in text.splitlines()[:-1])


def statistics(entries: Entries) -> None:
    """Every documented statistic over a sweep."""
    from fastplast import stats

    grid = GRID | {"seeds": 4, "tasks": 3, "strength": [0.1], "activation": ["relu", "tanh"], "srank": "both"}
    metrics = fp.sweep(grid, "sweep", memory=1).metrics()
    members = stats.member_means(metrics)
    names = [name for name in stats.EXPLANATIONS if members[name].notna().any()]
    found: dict[str, Any] = {
        "explanations": stats.EXPLANATIONS,
        "member means": members,
        "member means from task 1": stats.member_means(metrics, first_task=1),
        "select": stats.select(members, ["learning_rate", "method", "activation"], [2, 3]),
        "split seeds": [stats.split_seeds(range(n)) for n in range(2, 9)],
        "associations": stats.associations(members, names),
        "task correlations": stats.task_correlations(metrics),
        "consistency": [stats.consistency(members, n, stats.EXPLANATIONS[n].direction) for n in names],
        "task consistency": [stats.task_consistency(metrics, stats.EXPLANATIONS[n]) for n in names],
    }
    curves = metrics[metrics["when"] == "end"].pivot(index="member", columns="task", values="error").to_numpy()
    ranks = metrics[metrics["when"] == "start"].pivot(index="member", columns="task", values="hessian_srank").to_numpy()
    one, other = (members[members["learning_rate"] == rate] for rate in (1e-2, 1e-3))
    means = [part.groupby("seed")["mean_error"].mean() for part in (one, other)]
    found |= {
        "mean interval": stats.mean_interval(curves),
        "interquartile mean": stats.interquartile_mean(curves),
        "bootstrap mean": stats.bootstrap_interval(curves),
        "bootstrap iqm": stats.bootstrap_interval(curves, "iqm", confidence=0.9, seed=3),
        "paired difference": stats.paired_difference(*means),
        "associate": stats.associate(members["mean_error"], members[names[0]]),
        "least squares": stats.least_squares(ranks.astype(float), curves),
    }
    for name, value in found.items():
        entries[name] = value_digest(value)
