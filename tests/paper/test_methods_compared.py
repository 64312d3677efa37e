"""The page that compares methods is what its script writes, and its verdicts follow from the numbers."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import methods_compared  # noqa: E402
from paper_statements.inference import NO, PREMISE, YES  # noqa: E402
from paper_statements.studies import Study  # noqa: E402


def setting(errors, ranks) -> methods_compared.Setting:
    """Five seeds with the given error at the end and stable rank at the start of each task, a little apart."""
    rows = []
    for seed in range(5):
        for task, (error, rank) in enumerate(zip(errors, ranks)):
            row = {"seed": seed, "task": task, "benchmark": "mnist_shuffle", "examples": 1280}
            rows.append(row | {"when": "end", "error": error + seed / 1280, "hessian_srank": np.nan})
            rows.append(row | {"when": "start", "error": 0.9, "hessian_srank": rank + seed})
    return methods_compared.Setting("method", "-", "none", Study("mnist_shuffle", 1e-3, pd.DataFrame(rows)))


def test_the_page_is_what_the_script_writes():
    settings = sorted(methods_compared.read(methods_compared.RESULTS), key=lambda one: one.error.mean)
    page = methods_compared.page(settings, methods_compared.read_costs())
    assert methods_compared.PAGE.read_text(encoding="utf-8") == page
    assert methods_compared.FIGURE.exists()
    names = [one.name for one in settings]
    assert len(set(names)) == len(names)
    assert "no method" in names


@pytest.mark.parametrize(
    ("errors", "ranks", "verdicts"),
    [
        ([0.01, 0.01, 0.01, 0.01], [800, 600, 600, 600], (YES, YES)),
        ([0.01, 0.01, 0.01, 0.01], [800, 600, 100, 50], (YES, NO)),
        ([0.01, 0.01, 0.5, 0.5], [800, 600, 600, 600], (NO, YES)),
        ([0.01, 0.01, 0.5, 0.5], [800, 600, 100, 50], (NO, NO)),
        ([0.88, 0.88, 0.88, 0.88], [800, 600, 600, 600], (PREMISE, YES)),
    ],
)
def test_verdicts_follow_error_and_rank(errors, ranks, verdicts):
    assert setting(errors, ranks).verdicts == verdicts


def test_costs_are_those_of_the_engine_that_trains_a_method(tmp_path, monkeypatch):
    def bench(engine, **us):
        return {"name": f"test_beside_plain_training[{engine}]", "extra_info": {"us": us}}

    benches = [bench("cpu", none=50.0, cbp=60.0), bench("vmap", none=200.0, cbp=400.0, upgd=300.0)]
    path = tmp_path / "bench" / "results" / "machine" / "methods.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"benchmarks": benches}))
    monkeypatch.setattr(methods_compared, "ROOT", tmp_path)
    assert methods_compared.read_costs() == {"none": 1.0, "cbp": 1.2, "upgd": 1.5}
