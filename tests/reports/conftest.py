"""Made-up runs written by the store's own writer, and a browser to open their reports in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fastplast.config import Experiment
from fastplast.reports import report
from fastplast.runs.run import Run
from fastplast.runs.writer import RunWriter

HYPERPARAMETERS = ("learning_rate", "method", "strength", "activation")


def value(row: int, task: int, metric: str) -> float:
    """What a member has in a task: different for each, the same in every test."""
    seed = [row, task, *metric.encode()]
    return float(np.random.default_rng(seed).integers(1, 999) / 1000)


@pytest.fixture
def make(tmp_path) -> Callable[..., Run]:
    """``make(name, settings=..., seeds=..., tasks=..., ...)``: a run on disk whose values are those of ``value``."""

    def make(
        name: str = "run",
        settings: tuple[dict[str, Any], ...] = ({"activation": "relu"}, {"activation": "tanh"}),
        seeds: int = 3,
        tasks: int = 4,
        planned: int | None = None,
        finished: bool = True,
        srank: bool = True,
        loose: int = 0,
        diverge: dict[int, int] | None = None,
        drop: tuple[str, ...] = (),
        config: dict[str, Any] | None = None,
        first_seed: int = 0,
        note: Any = "full",
    ) -> Run:
        usual = {"learning_rate": 1e-3, "method": "none", "strength": 0.0, "activation": "relu", "network": "mlp"}
        rows = [usual | setting | {"seed": first_seed + s} for setting in settings for s in range(seeds)]
        stored = Experiment(tasks=planned or tasks, seeds=seeds).resolved().to_dict() | (config or {})
        who = {"member": list(range(len(rows))), "seed": [row["seed"] for row in rows]}
        who |= {key: [row[key] for row in rows] for key in rows[0] if key != "seed"}
        with RunWriter.create(tmp_path / name, stored, "fastplast train --seeds 3") as writer:
            writer.write_note("data", {"source": note})
            for task in range(tasks):
                for when in ("start", "end"):
                    steps = [(diverge or {}).get(m) for m in range(len(rows))]
                    stopped = [s is not None and (task > s or (task == s and when == "end")) for s in steps]
                    columns: dict[str, Any] = {"updates": [16 * task] * len(rows), "diverged": stopped}
                    columns["diverged_step"] = [16 * s + 5 if gone else None for s, gone in zip(steps, stopped)]
                    names = ["error", "loss"] + (["online_error", "dead_fraction"] if when == "end" else [])
                    for metric in (metric for metric in names if metric not in drop):
                        columns[metric] = [value(m, task, metric + when) for m in range(len(rows))]
                    if srank and when == "start":
                        ranks = np.array([int(1000 * value(m, task, "srank")) + 10 for m in range(len(rows))])
                        columns["hessian_srank"] = ranks
                        columns |= {"hessian_srank_lo": ranks - loose, "hessian_srank_hi": ranks + loose}
                        columns["hessian_method"] = ["exact"] * len(rows)
                        sizes = torch.logspace(0, -6, 200, dtype=torch.float64)
                        signs = torch.tensor([1.0, -1.0]).repeat(100)
                        writer.write_spectra(task, when, [sizes * signs * (m + 1) for m in range(len(rows))])
                    writer.write_metrics(task, when, {**who, **columns})
                writer.append_timing({"task": task, "train_seconds": 30.0, "measure_seconds": 2.0})
            if finished:
                writer.finish()
        return writer.run

    return make


@pytest.fixture
def payload() -> Callable[[Path], dict[str, Any]]:
    """``payload(file)``: the data that a page holds."""

    def payload(path: Path) -> dict[str, Any]:
        found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
        assert found
        return json.loads(found[1])

    return payload


@pytest.fixture
def show(browser) -> Any:
    """``show(run, width=..., scheme=..., out=...)``: the run's report in the browser, which must keep to itself."""
    contexts, wrong = [], []

    def show(run: Any, width: int = 1200, height: int = 900, scheme: str = "light", out: Path | None = None) -> Any:
        path = report(run, out)
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: wrong.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        page.wait_for_selector("#members-table tbody tr")
        return page

    yield show
    for context in contexts:
        context.close()
    assert wrong == []
