"""The page on the paper is what its script writes from the stored results, and its verdicts follow their rule."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import paper  # noqa: E402
import paper_statements as statements  # noqa: E402


def runs(error, srank, activation="relu"):
    """Metrics of members whose error and stable rank over tasks are given, `[M, K]`."""
    rows = []
    for member, (errors, ranks) in enumerate(zip(error, srank)):
        for task, (e, r) in enumerate(zip(errors, ranks)):
            of = {"member": member, "seed": member, "activation": activation, "task": task}
            rows += [of | {"when": "start", "hessian_srank": r}, of | {"when": "end", "error": e}]
    return pd.DataFrame(rows)


def test_the_page_is_what_the_script_writes():
    assert (ROOT / "docs" / "paper.md").read_text(encoding="utf-8") == paper.page()


@pytest.mark.parametrize(
    ("interval", "claimed", "verdict"),
    [
        ((2.0, 1.0, 3.0), +1, statements.YES),
        ((2.0, 1.0, 3.0), -1, statements.NO),
        ((-2.0, -3.0, -1.0), -1, statements.YES),
        ((0.5, -1.0, 2.0), +1, statements.OPEN),
        ((0.5, float("nan"), float("nan")), +1, statements.OPEN),
    ],
)
def test_a_statement_holds_where_its_interval_lies_on_the_claimed_side(interval, claimed, verdict):
    assert statements.decide(interval, claimed) == verdict


def test_loss_is_found_where_it_is_and_its_absence_where_it_is_not():
    tasks = np.arange(8)
    noise = 0.01 * np.random.default_rng(0).random((5, 8))
    losing = runs(0.1 * tasks + noise, 800 - 100 * tasks + 100 * noise)
    keeping = runs(noise, 800 + 100 * noise, "identity")
    (lost,) = statements.plasticity_is_lost(losing)
    (kept,) = statements.plasticity_is_lost(keeping)
    assert (lost.verdict, kept.verdict) == (statements.YES, statements.YES)
    curvature = [finding.verdict for finding in statements.curvature_is_lost(losing)]
    assert (curvature[0], curvature[2]) == (statements.YES, statements.YES)
    (failing,) = statements.plasticity_is_lost(losing.assign(activation="identity"))
    assert failing.verdict == statements.NO


def test_the_order_of_losses_is_told_apart():
    step = (np.arange(12) >= 6).astype(float)
    late = (np.arange(12) >= 9).astype(float)
    noise = 0.01 * np.random.default_rng(0).random((4, 12))
    before = runs(late + noise, 800 - 700 * step + noise)
    after = runs(step + noise, 800 - 700 * late + noise)
    verdicts = [list(statements.curvature_is_lost(table))[1].verdict for table in (before, after)]
    assert verdicts == [statements.YES, statements.NO]


def test_an_explanation_fails_where_one_activation_contradicts_it_or_it_does_not_vary():
    tasks = np.arange(8)
    noise = 0.001 * np.random.default_rng(0).random((5, 8))
    table = pd.concat(
        [
            runs(0.1 * tasks + noise, 800 - noise, "relu").assign(update_l1_mean=0.0, weight_norm_l1=1.0),
            runs(0.1 * tasks + noise, 800 - noise, "tanh").assign(update_l1_mean=0.0, weight_norm_l1=1.0),
        ],
        ignore_index=True,
    )
    table["member"] += 5 * (table["activation"] == "tanh")
    table["update_l1_mean"] = np.where(table["activation"] == "relu", -1.0, 1.0) * table["task"]
    others = ("feature_srank_fc3", "weight_srank_fc3", "activation_entropy", "dormant_fraction")
    found = {
        f.text.split(" does")[0]: f
        for f in statements.earlier_explanations_fail(table.assign(**dict.fromkeys(others, 0.0)))
    }
    assert found["update norm"].verdict == statements.YES
    assert found["weight norm"].verdict == statements.YES
    assert "does not vary" in found["weight norm"].evidence
