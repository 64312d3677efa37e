"""Reading 1,000 members x 100 tasks and writing their report, in a process of its own: seconds, memory, bytes.

The results are made up, by the store's own writer: what they say is nothing, what they weigh is what a run's would.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from fastplast.config import ACTIVATIONS, DEFINITIONS
from fastplast.runs.writer import RunWriter

TASKS, SEEDS, LAYERS = 100, 20, ("fc1", "fc2", "fc3", "fc4")
METHODS = [("none", 0.0), *((m, s) for m in ("l2", "regenerative", "wasserstein") for s in (1.0, 0.1, 0.01))]
SETTINGS = [(a, *m, 1e-3) for a in ACTIVATIONS for m in METHODS]  # 50; x 20 seeds
WHOLE = ("hessian_dimension", "hessian_depth", "hessian_srank")
MEASURE = """
import json, resource, sys, time
started = time.perf_counter()
from fastplast.reports import report
path = report(sys.argv[1], sys.argv[2])
seconds = time.perf_counter() - started
print(json.dumps({"seconds": seconds, "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                  "file MB": path.stat().st_size / 1e6}))
"""


def fabricate(path: Path, settings: list[tuple] = SETTINGS, seeds: int = SEEDS, tasks: int = TASKS) -> Path:
    """Writes a run whose values are made up, with every column and every spectrum that a run has.

    Args:
        path: of the run.
        settings: (activation, method, strength, learning rate) of each.
        seeds: members of each setting.
        tasks: how many.

    Returns:
        The path.
    """
    rows = [(*setting, seed) for setting in settings for seed in range(seeds)]
    describe: dict[str, list] = {"member": list(range(len(rows))), "seed": [row[4] for row in rows]}
    describe |= {"learning_rate": [row[3] for row in rows], "method": [row[1] for row in rows]}
    describe |= {"strength": [row[2] for row in rows], "activation": [row[0] for row in rows]}
    same = {"dataset": "mnist", "benchmark": "mnist_shuffle", "network": "mlp", "epochs": 200, "optimizer": "adam"}
    describe |= {name: [value] * len(rows) for name, value in same.items()}
    names = [
        name.replace("{layer}", layer) for name in DEFINITIONS for layer in (LAYERS if "{" in name else LAYERS[:1])
    ]
    names = [name for name in names if name != "hessian_method"]
    rng = np.random.default_rng(0)
    with RunWriter.create(path, {"benchmark": "mnist_shuffle", "tasks": tasks}, "fabricated") as writer:
        writer.write_definitions(DEFINITIONS)
        for task in range(tasks):
            for when in ("start", "end"):
                columns = {"updates": [16_000 * task] * len(rows), "diverged": [False] * len(rows)}
                for name in names:
                    columns[name] = _values(rng, name, len(rows), task)
                columns["hessian_method"] = ["exact"] * len(rows)
                writer.write_metrics(task, when, describe | columns)
                sizes = torch.from_numpy(rng.lognormal(-6, 3, (len(rows), 600)).astype(np.float32))
                writer.write_spectra(task, when, list(sizes * torch.from_numpy(rng.choice([-1.0, 1.0], 600))))
            writer.append_timing({"task": task, "train_seconds": 100.0, "measure_seconds": 10.0})
        writer.finish()
    return path


def _values(rng: np.random.Generator, name: str, rows: int, task: int) -> np.ndarray:
    noise = rng.random(rows)
    if name == "hessian_zero":
        return noise < 0.01
    if name.startswith(WHOLE):  # bounds that differ from the stable rank and from each other
        return (2000 * noise / (1 + task / 10)).astype(int) + name.endswith("hi") - name.endswith("lo")
    return np.exp(6 * noise) * 1e-3 if "norm" in name or "loss" in name else noise


def test_report_of_1000_members_and_100_tasks(benchmark, tmp_path) -> None:
    benchmark.group = "report of 1,000 members x 100 tasks"
    _measured(benchmark, fabricate(tmp_path / "run"))


def test_report_of_1000_settings_of_one_member(benchmark, tmp_path) -> None:
    """The widest grid: nothing can be averaged."""
    benchmark.group = "report of 1,000 settings of one member x 100 tasks"
    rates = [1e-3 * 1.1**k for k in range(1000 // len(SETTINGS))]
    _measured(benchmark, fabricate(tmp_path / "run", [(*s[:3], rate) for s in SETTINGS for rate in rates], seeds=1))


def _measured(benchmark, run: Path) -> None:
    def timed() -> dict[str, float]:
        command = [sys.executable, "-c", MEASURE, str(run), str(run / "report.html")]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    found = benchmark.pedantic(timed, rounds=1)
    benchmark.extra_info.update(found)
    assert (run / "report.html").stat().st_size > 5e6


if __name__ == "__main__":
    begun = time.perf_counter()
    print(fabricate(Path(sys.argv[1])), f"{time.perf_counter() - begun:.0f} s")
