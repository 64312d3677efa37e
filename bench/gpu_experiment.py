"""Trains label-shuffled MNIST as the paper does, on a GPU: twice, measured in turn and beside training.

Prints a table of both and writes what is in it. Fails where the two differ in a bit, or where training fails to learn
the first task. ``--dry-run``: a few updates on a CPU by its engine; its times mean nothing, and its results say so.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fastplast as fp

SIZES = {"seeds": 30, "tasks": 6, "engine": "cuda", "device": "cuda"}
DRY_SIZES = {"seeds": 2, "tasks": 2, "epochs": 2, "examples": 96, "engine": "cpu", "device": "cpu"}


def trained(out: Path, sizes: dict[str, Any], overlap: bool) -> tuple[fp.Run, float]:
    """A run, and its seconds from start to end."""
    begun = time.perf_counter()
    run = fp.train(fp.Experiment("mnist_shuffle", out=str(out), overlap=overlap, **sizes))
    return run, time.perf_counter() - begun


def rows_of(run: fp.Run) -> list[dict[str, float]]:
    """One row for each task: medians over the members, and where the time went."""
    metrics, timings = run.metrics(), run.timings()
    rows = []
    for task in sorted(metrics.task.unique()):
        at = {when: metrics[(metrics.task == task) & (metrics.when == when)] for when in ("start", "end")}
        spent = timings[timings.task == task].iloc[-1]
        rows.append({
            "task": int(task),
            "error at its end": float(at["end"].error.median()),
            "stable rank at its start": float(at["start"].hessian_srank.median()),
            "training (s)": float(spent.train_seconds),
            "waiting for measurements (s)": float(spent.measure_seconds),
        })  # fmt: skip
    return rows


def table(rows: list[dict[str, float]]) -> str:
    """Rows as a table in Markdown."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(f"{value:.4g}" for value in row.values()) + " |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Trains, compares, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--dry-run", action="store_true")
    for name in ("seeds", "tasks", "epochs", "examples"):
        parser.add_argument(f"--{name}", type=int, help="of the experiment")
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in ("seeds", "tasks", "epochs", "examples")}
    sizes = {name: value for name, value in given.items() if value is not None}
    sizes = SIZES | sizes | (DRY_SIZES if arguments.dry_run else {})
    with tempfile.TemporaryDirectory() as scratch:
        plain, seconds = trained(Path(scratch, "plain"), sizes, False)
        beside, seconds_beside = trained(Path(scratch, "beside"), sizes, True)
        same = plain.metrics().equals(beside.metrics())
        rows, rows_beside = rows_of(plain), rows_of(beside)
        source = plain.metrics().data_source.iloc[0]
    print(f"{sizes['seeds']} members on label-shuffled MNIST ({source} data), measured in turn: {seconds:.1f} s\n")
    print(table(rows))
    print(f"\nMeasured beside training (--overlap): {seconds_beside:.1f} s\n")
    print(table(rows_beside))
    results = {"dry_run": arguments.dry_run, "same": same, "seconds": seconds, "seconds beside": seconds_beside}
    arguments.output.write_text(json.dumps(results | {"tasks": rows, "tasks beside": rows_beside}, indent=1) + "\n")
    if not same:
        sys.exit("results measured beside training must be those measured in turn to the bit: they differ.")
    if not arguments.dry_run and rows[0]["error at its end"] > 0.05:
        sys.exit(f"the first task must be learned, to an error of 0.05: got {rows[0]['error at its end']:.3f}.")


if __name__ == "__main__":
    main()
