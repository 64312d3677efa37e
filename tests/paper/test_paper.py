"""The page on the paper is what its script writes, a second program finds its numbers, verdicts follow their rules."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import paper  # noqa: E402
import paper_check  # noqa: E402
from paper_statements.decide import MIXED, decide_all, kind_of, read_statements, summed, verdicts  # noqa: E402
from paper_statements.inference import (  # noqa: E402
    FEW,
    NO,
    OPEN,
    PREMISE,
    YES,
    Finding,
    Part,
    combine,
    holm,
)  # fmt: skip
from paper_statements.measures import correlations, halfway  # noqa: E402
from paper_statements.rules import RULES  # noqa: E402
from paper_statements.studies import Study, load_studies  # noqa: E402

import fastplast as fp  # noqa: E402
from fastplast.networks import NETWORKS  # noqa: E402
from fastplast.sweeps.grid import expand, read_grid  # noqa: E402

CORRELATION = {"bounds": (-1.0, 1.0), "step": 0.01}


def study(curves, rate=1e-3, **columns):
    """Runs of activations; of each the errors and stable ranks `[seeds, tasks]`."""
    rows, member = [], 0
    for activation, (errors, ranks) in curves.items():
        for seed, (error, rank) in enumerate(zip(errors, ranks)):
            of = {"member": member, "seed": seed, "activation": activation, "method": "none", "reduction": "mean",
                  "strength": 0.0, "epochs": 200, "examples": 1280, "benchmark": "mnist_shuffle", "network": "mlp",
                  "feature_srank_fc3": 1.0} | columns  # fmt: skip
            for task, (e, r) in enumerate(zip(error, rank)):
                rows += [of | {"task": task, "when": "start", "hessian_srank": r},
                         of | {"task": task, "when": "end", "error": e}]  # fmt: skip
            member += 1
    return Study("made", rate, pd.DataFrame(rows))


def noise(seeds=6, tasks=12, scale=0.001):
    return scale * np.random.default_rng(0).random((seeds, tasks))


@pytest.fixture(scope="module")
def decided():
    statements, studies = read_statements(), load_studies(paper.RESULTS)
    return statements, studies, decide_all(statements, studies)


def test_the_page_is_what_the_script_writes(decided):
    assert (ROOT / "docs" / "paper.md").read_text(encoding="utf-8") == paper.page(*decided)


def test_a_second_program_finds_every_number_of_the_page():
    wrong, count = paper_check.differences((ROOT / "docs" / "paper.md").read_text(encoding="utf-8"), paper.RESULTS)
    assert wrong == []
    assert count == sum(f"`{s.name}`, {s.rate:g}" in line for s in load_studies(paper.RESULTS)
                        for line in (ROOT / "docs" / "paper.md").read_text(encoding="utf-8").splitlines())  # fmt: skip


@pytest.mark.parametrize(
    ("written", "instead"),
    [
        ("[1.7, 4.1]", "[1.7, 4.2]"),
        ("relu 0.569", "relu 0.568"),
        ("**no** (p", "**yes** (p"),
        ("2 of 3 seeds", "3 of 3 seeds"),
    ],
)
def test_the_second_program_sees_a_number_that_is_wrong(written, instead):
    page = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
    wrong, _ = paper_check.differences(page.replace(written, instead, 1), paper.RESULTS)
    assert (written in page, len(wrong)) == (True, 1)


def test_every_statement_of_the_list_can_be_decided_or_says_why_not(decided):
    statements = decided[0]
    ids = [s.id for s in statements]
    assert len(ids) == len(set(ids))
    assert {s.section for s in statements} == set(paper.SECTIONS)
    assert {s.kind for s in statements} == {"claim", "summary", "definition", "method", "argument", "literature"}
    for s in statements:
        assert (s.rule in RULES or bool(s.needs)) if s.kind == "claim" else not s.rule, s.id
        assert bool(s.of) == (s.kind == "summary"), s.id
        assert set(s.of) <= set(ids), s.id
        assert all(int(n) in range(1, 28) for n in s.figure.split(",") if n), s.id
    assert {s.rule for s in statements if s.rule} == set(RULES)


def test_each_grid_makes_the_members_that_are_stored_beside_it():
    for file in sorted(paper.RESULTS.glob("*.toml")):
        stored = fp.load(file.with_suffix(".parquet"))
        table = stored.metrics()
        made = set()
        for cell in expand(read_grid(file)):
            e, m = cell.group, cell.member
            hidden = sum(name.startswith("weight_srank_fc") for name in table) - 1
            assert hidden == len(e.widths or NETWORKS[e.network].widths), file
            made.add((m.seed, m.learning_rate, e.activation, m.method, m.strength, e.benchmark, e.network, e.epochs))
        names = ["seed", "learning_rate", "activation", "method", "strength", "benchmark", "network", "epochs"]
        tasks = table.groupby("member")["task"].nunique()
        members = set(table.drop_duplicates("member")[names].itertuples(index=False, name=None))
        assert members <= made, file
        if stored.is_finished:
            assert (members, set(tasks)) == (made, {e.tasks}), file


def test_an_interval_without_bounds_is_students_and_p_is_below_5_percent_where_it_excludes_the_edge():
    values = np.array([0.3, 0.5, 0.9, 0.2, 1.4])
    part = Part("", values)
    found = stats.ttest_1samp(values, 0.0)
    assert part.interval == pytest.approx(tuple(found.confidence_interval(0.95)))
    assert part.p == pytest.approx(found.pvalue)
    for edge in part.interval:
        assert Part("", values, (edge, np.inf)).p == pytest.approx(0.05)


@pytest.mark.parametrize("values", [[0.999] * 4 + [0.2], [-1.0] * 5, [0.0, 1.0, 1.0, 1.0, 1.0], [0.5] * 6], ids=str)
def test_no_interval_passes_what_is_possible(values):
    part = Part("", np.array(values), (0.0, np.inf), **CORRELATION)
    low, high = part.interval
    assert -1 <= low <= part.mean <= high <= 1


@pytest.mark.parametrize("region", [(0.0, np.inf), (-np.inf, 1.0), (-0.5, 0.5)], ids=str)
@pytest.mark.parametrize("bounds", [None, (-3.0, 3.0)], ids=str)
def test_yes_and_no_exclude_each_other_and_follow_the_interval(region, bounds):
    rng = np.random.default_rng(1)
    for center in np.linspace(-2, 2, 41):
        part = Part("", center + 0.3 * rng.normal(size=8), region, bounds)
        low, high = part.interval
        inside, outside = region[0] < low and high < region[1], high < region[0] or low > region[1]
        assert combine([part], "all").verdict == (YES if inside else NO if outside else OPEN)


def test_fewer_than_five_seeds_decide_nothing():
    part = Part("it", np.array([1.0, 1.1, 0.9, 1.0]))
    assert combine([part], "all").verdict == FEW
    assert str(part) == "it 1.000 (4 of 4 seeds as claimed)"


def test_all_parts_must_hold_or_any_and_a_failed_premise_is_left_out():
    up, down = (Part("", sign * np.linspace(0.9, 1.1, 6)) for sign in (1, -1))
    open_, failed = Part("", np.linspace(-1, 1.1, 6)), Part("", np.linspace(0.9, 1.1, 6), failed="never learned")
    assert [combine([up, up], "all").verdict, combine([up, down], "all").verdict] == [YES, NO]
    assert [combine([up, down], "any").verdict, combine([down, down], "any").verdict] == [YES, NO]
    assert combine([up, open_], "all").verdict == combine([down, open_], "any").verdict == OPEN
    assert [combine([failed], "all").verdict, combine([failed, up], "all").verdict] == [PREMISE, YES]
    assert combine([up, down], "all").p == pytest.approx(2 * down.p)


def test_p_values_are_corrected_by_holms_method():
    assert holm([0.01, float("nan"), 0.04, 0.03]) == pytest.approx([0.03, float("nan"), 0.06, 0.06], nan_ok=True)
    assert Finding(YES, 0.04, YES).corrected(0.06) == OPEN
    assert Finding(PREMISE).corrected(float("nan")) == PREMISE


def test_verdicts_of_studies_and_of_summaries_are_joined(decided):
    statements, _, found = decided
    assert summed([YES, YES]) == YES
    assert (summed([YES, NO]), summed([YES, MIXED]), summed([OPEN, FEW])) == (NO, MIXED, OPEN)
    told = verdicts(statements, found, corrected=False)
    assert (told["3.2"], told["2.1"], told["D.2-1"]) == (YES, "definition", "not run")
    assert told["6.2-1"] != YES or len({row.study.rate for row in found["6.2-1"]}) >= 3


def test_loss_is_found_where_it_is_and_its_absence_where_it_is_not():
    tasks, ranks = np.arange(12), 800 - 60 * np.arange(12)
    made = study({"relu": (0.07 * tasks + noise(), ranks + noise()), "identity": (noise(), 800 + noise())})

    def decide(rule, *names):
        return combine(RULES[rule].parts(made, activations=[*names]), RULES[rule].mode)

    assert decide("error_rises", "relu").verdict == YES
    assert (decide("error_stays", "identity").verdict, decide("error_stays", "relu").verdict) == (YES, NO)
    assert (decide("rank_falls", "relu").verdict, decide("rank_falls", "identity").verdict) == (YES, PREMISE)
    assert (decide("rank_constant", "identity").verdict, decide("rank_constant", "relu").verdict) == (YES, PREMISE)
    assert kind_of(made) == "activations"


def test_a_network_that_never_learned_loses_nothing():
    made = study({"relu": (0.88 + 0.001 * np.arange(12) + noise(), 9 + noise())})
    assert combine(RULES["error_rises"].parts(made, activations=["relu"]), "all").verdict == PREMISE


def test_what_is_measured_at_a_tasks_start_is_a_task_earlier_than_at_its_end():
    step = (np.arange(12) >= 6).astype(float)
    for delay, between in ((0, -1.0), (1, 0.0), (3, 2.0)):
        fallen = (np.arange(12) >= 6 + delay).astype(float)
        made = study({"tanh": (0.5 * step + noise(), 800 - 700 * fallen + noise())})
        (part,) = RULES["rank_comes"].parts(made, activations=["tanh"], within=0.0)
        assert (part.mean, combine([part], "all").verdict) == (
            between,
            YES if between < 0 else OPEN if between == 0 else NO,
        )


def test_a_common_trend_is_no_relation_of_changes():
    rng = np.random.default_rng(2)
    trend = np.arange(40) / 50
    errors, ranks = trend + 0.02 * rng.normal(size=(8, 40)), 800 - 900 * trend + 20 * rng.normal(size=(8, 40))
    (part,) = RULES["rank_goes_with_error"].parts(study({"relu": (errors, ranks)}), activations=["relu"])
    assert combine([part], "all").verdict == OPEN
    assert part.beside.startswith("levels -0.9")
    assert "task number alone 1.00" in part.beside
    tied = 800 - 900 * errors
    (part,) = RULES["rank_goes_with_error"].parts(study({"relu": (errors, np.roll(tied, 0, 1))}), activations=["relu"])
    assert combine([part], "all").verdict == YES


def test_correlations_are_spearmans_within_seeds_and_missing_where_nothing_varies():
    x = pd.DataFrame(np.random.default_rng(3).normal(size=(3, 9)))
    y = pd.DataFrame(np.random.default_rng(4).normal(size=(3, 9)))
    y.loc[2] = 1.0
    expected = [stats.spearmanr(x.loc[i], y.loc[i]).statistic for i in (0, 1)]
    assert correlations(x, y).to_numpy() == pytest.approx([*expected, float("nan")], nan_ok=True)


def test_half_of_the_way_is_between_the_first_and_the_last_quarter():
    values = pd.DataFrame([[0, 0, 0.2, 0.6, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0, 0]], columns=range(1, 9), dtype=float)
    assert halfway(values).to_numpy() == pytest.approx([4.0, float("nan")], nan_ok=True)
