"""What is said of members: their means, how these go with mean error, and differences by seed."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fastplast.stats import (
    EXPLANATIONS,
    associate,
    associations,
    consistency,
    member_means,
    paired_difference,
    select,
    split_seeds,
    task_correlations,
)

FLAT = ["pearson", "pearson_low", "pearson_high", "spearman", "spearman_low", "spearman_high", "slope", "slope_low"]


def pair(n=30, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=n)
    return x, x + rng.normal(size=n)


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_correlations_and_slope_are_scipys(confidence):
    x, y = pair()
    found, line = associate(x, y, confidence), stats.linregress(x, y)
    pearson = stats.pearsonr(x, y)
    interval = pearson.confidence_interval(confidence)
    expected = [pearson.statistic, interval.low, interval.high, stats.spearmanr(x, y).statistic]
    np.testing.assert_allclose([getattr(found, name) for name in FLAT[:4]], expected, rtol=1e-12)
    half = stats.t.ppf((1 + confidence) / 2, len(x) - 2) * line.stderr
    ends = [line.slope, line.slope - half, line.slope + half, line.intercept]
    slopes = [found.slope, found.slope_low, found.slope_high, found.intercept]
    np.testing.assert_allclose(slopes, ends, rtol=1e-11)
    assert (found.n, found.sign, found.excludes_zero) == (30, 1.0, True)


def test_the_interval_of_ranks_is_bonett_and_wrights():
    x, y = pair(12)
    found = associate(x, y)
    error = np.sqrt((1 + found.spearman**2 / 2) / 9)
    expected = np.tanh(np.arctanh(found.spearman) + np.array([-1, 1]) * stats.norm.ppf(0.975) * error)
    np.testing.assert_allclose([found.spearman_low, found.spearman_high], expected, rtol=1e-12)


def test_ties_share_their_rank_and_nan_is_left_out():
    x, y = [1.0, 1.0, 2.0, 2.0, 5.0, np.nan, 9.0], [3.0, 1.0, 1.0, 4.0, 4.0, 7.0, np.nan]
    found = associate(x, y)
    assert found.n == 5
    assert found.spearman == pytest.approx(stats.spearmanr(x[:5], y[:5]).statistic, rel=1e-12)
    assert associate(x, y) == associate(x[:5], y[:5])


@pytest.mark.parametrize(
    ("x", "y"), [([1.0], [2.0]), ([3.0, 3.0, 3.0], [1.0, 2.0, 3.0]), ([1.0, 2.0, 3.0], [0.1] * 3), ([np.nan], [1.0])]
)  # fmt: skip
def test_what_does_not_vary_has_missing_values_and_no_warning(x, y):
    found = associate(x, y)
    assert all(np.isnan(getattr(found, name)) for name in FLAT)
    assert np.isnan(found.sign)
    assert not found.excludes_zero


def test_few_members_have_estimates_and_no_intervals():
    two, three = associate([1.0, 2.0], [5.0, 3.0]), associate([1.0, 2.0, 3.0], [1.0, 3.0, 2.0])
    assert (two.slope, two.pearson, two.sign, two.excludes_zero) == (-2.0, -1.0, -1.0, False)
    assert np.isnan([two.slope_low, two.pearson_low, three.pearson_low, three.spearman_low]).all()
    assert three.slope_low < three.slope < three.slope_high


def test_a_perfect_line_has_intervals_of_no_width():
    found = associate([1.0, 2.0, 3.0, 4.0], [3.0, 5.0, 7.0, 9.0])
    assert (found.pearson_low, found.pearson_high, found.spearman_low) == (1.0, 1.0, 1.0)
    assert (found.slope, found.intercept) == (2.0, 1.0)


def test_a_tiny_scale_loses_no_digits():
    x, y = pair()
    small, ordinary = associate(1e-200 * x, y), associate(x, y)
    np.testing.assert_allclose(small.slope_low * 1e-200, ordinary.slope_low, rtol=1e-9)
    np.testing.assert_allclose(small.pearson, ordinary.pearson, rtol=1e-12)


def members(slopes, n=20, noise=0.01):
    rng, tables = np.random.default_rng(1), []
    for name, slope in slopes.items():
        x = rng.random(n)
        tables.append(pd.DataFrame({"activation": name, "seed": range(n), "hessian_srank": x, "flat": 1.0,
                                    "mean_error": 0.5 + slope * x + noise * rng.normal(size=n)}))  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def test_every_explanation_is_taken_within_each_group():
    table = members({"relu": -0.5, "tanh": 0.5})
    found = associations(table, ["hessian_srank", "flat"]).set_index(["explanation", "activation"])
    assert found.loc["hessian_srank", "sign"].to_dict() == {"relu": -1.0, "tanh": 1.0}
    assert found.loc["hessian_srank", "excludes_zero"].all()
    assert found.loc["flat", "slope"].isna().all()
    together = associations(table, ["hessian_srank"], by=None)
    assert (together["group"].tolist(), together["n"].tolist()) == (["all"], [40])
    with pytest.raises(ValueError, match=r"columns must be of the members: got 'hesian_srank'. Did you mean 'hessian_"):
        associations(table, ["hesian_srank"])


def test_consistency_is_the_mean_of_claimed_signs():
    for slopes, score in (({"a": -1, "b": -1}, 1.0), ({"a": -1, "b": 1}, 0.0), ({"a": 1, "b": 1}, -1.0)):
        found = consistency(members(slopes), "hessian_srank", -1)
        assert (found.score, found.low, found.high, found.groups, found.n) == (score, score, score, 2, 40)
        assert found.agreeing == (1 + score)
    assert consistency(members({"a": -1, "b": 1}), "hessian_srank", -1).weakest == pytest.approx(-1, abs=0.01)


def test_consistency_of_noise_has_a_wide_interval():
    found = consistency(members({"a": 0, "b": 0}, n=10), "hessian_srank", -1)
    assert found.high - found.low >= 1


def test_an_explanation_that_does_not_vary_agrees_with_nothing():
    found = consistency(members({"a": -1, "b": -1}), "flat", -1)
    assert (found.score, found.low, found.high, found.agreeing, found.weakest) == (0, 0, 0, 0, 0)


def test_groups_without_a_difference_in_error_do_not_count():
    table = members({"a": -1, "b": -1})
    table.loc[table["activation"] == "b", "mean_error"] = 0.0
    assert consistency(table, "hessian_srank", -1).groups == 1
    table["mean_error"] = np.nan
    found = consistency(table, "hessian_srank", -1)
    assert np.isnan(found.score)
    assert found.groups == 0
    with pytest.raises(ValueError, match=r"direction must be \+1 or -1: got 0"):
        consistency(table, "hessian_srank", 0)


def metrics():
    rows = []
    for member, frozen in enumerate([False, True]):
        for task in range(3):
            for when in ("start", "end"):
                rows.append({"member": member, "seed": member, "activation": "relu", "task": task, "when": when,
                             "diverged": frozen and task == 2, "error": task / 10, "feature_srank_fc1": 1.0,
                             "feature_srank_fc2": 7.0 + task, "hessian_srank": 10.0 * task if when == "start" else None,
                             "activation_entropy": 2.0 if when == "end" else 99.0})  # fmt: skip
    return pd.DataFrame(rows)


def test_member_means_take_each_explanation_at_its_time_and_the_last_hidden_layer():
    table = member_means(metrics())
    first = table.iloc[0]
    assert (first["mean_error"], first["tasks"], first["feature_srank"]) == (pytest.approx(0.1), 3, 8.0)
    assert (first["hessian_srank"], first["activation_entropy"]) == (10.0, 2.0)
    assert np.isnan(first["weight_norm"])
    assert member_means(metrics(), first_task=1)["mean_error"][0] == pytest.approx(0.15)
    with pytest.raises(ValueError, match="metrics must have a task that ended from task 9 on: got none"):
        member_means(metrics(), first_task=9)


def test_a_member_that_diverged_has_no_means():
    table = member_means(metrics())
    assert table["diverged"].tolist() == [False, True]
    assert table.loc[1, ["mean_error", *EXPLANATIONS]].isna().all()


def test_paired_differences_lose_what_seeds_have_in_common():
    rng = np.random.default_rng(0)
    common, gain = rng.normal(0, 10, 12), rng.normal(1, 0.1, 12)
    found = paired_difference(dict(enumerate(common + gain)), pd.Series(common[:10]))
    test = stats.ttest_rel((common + gain)[:10], common[:10]).confidence_interval()
    np.testing.assert_allclose([found.mean.low, found.mean.high], [test.low, test.high], rtol=1e-9)
    assert found.mean.low < found.bootstrap.low < 1.1
    assert (found.seeds, found.unpaired) == (tuple(range(10)), (10, 11))


def test_seeds_without_a_value_are_not_paired():
    found = paired_difference({0: 1.0, 1: np.nan, 2: 4.0}, {0: 0.0, 1: 1.0, 3: 0.0})
    assert (float(found.mean.estimate), found.seeds, found.unpaired) == (1.0, (0,), (1, 2, 3))
    assert np.isnan(found.mean.low)
    with pytest.raises(ValueError, match=r"first and second must share a seed: got seeds 0, 1 and 2"):
        paired_difference({0: 1.0, 1: 1.0}, {2: 1.0})
    with pytest.raises(ValueError, match=r"second must have one value for each seed: got several for \[3\]"):
        paired_difference({0: 1.0}, pd.Series([1.0, 2.0], index=[3, 3]))


def grid(diverged=()):
    rows = [{"learning_rate": rate, "seed": seed, "mean_error": mean + 0.01 * seed}
            for rate, mean in ((0.01, 0.3), (0.001, 0.1), (0.0001, 0.2)) for seed in range(6)]  # fmt: skip
    table = pd.DataFrame(rows)
    for rate, seed in diverged:
        table.loc[(table["learning_rate"] == rate) & (table["seed"] == seed), "mean_error"] = np.nan
    return table


def test_the_best_setting_of_some_seeds_is_reported_on_the_others():
    found = select(grid(), ["learning_rate"], [4, 5])
    assert found.setting == {"learning_rate": 0.001}
    assert found.reported.estimate == pytest.approx(0.115)
    assert found.selected.estimate == pytest.approx(0.145)
    assert found.candidates["learning_rate"].tolist() == [0.001, 0.0001, 0.01]
    assert (found.selection_seeds, found.report_seeds) == ((4, 5), (0, 1, 2, 3))


def test_a_setting_that_diverges_is_chosen_last():
    assert select(grid([(0.001, 5)]), ["learning_rate"], [4, 5]).setting == {"learning_rate": 0.0001}
    found = select(grid([(0.001, 0)]), ["learning_rate"], [4, 5])  # where it was not seen to
    assert (found.setting, found.reported.n.item()) == ({"learning_rate": 0.001}, 3)


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        (([0, 1], [1, 2]), r"must not overlap: got \[1\] in both"),
        (([0], None), r"selection_seeds must be at least 2: got 0"),
        (([0, 1, 2, 3, 4], None), r"report_seeds must be at least 2: got 5"),
        (([0, 1], [2, 7]), r"every setting must have all seeds: got none of \[7\] of learning_rate 0.0001"),
    ],
)  # fmt: skip
def test_seeds_that_cannot_choose_or_report_are_refused(seeds, message):
    with pytest.raises(ValueError, match=message):
        select(grid(), ["learning_rate"], *seeds)


def test_settings_that_leave_members_alike_are_refused():
    with pytest.raises(ValueError, match="settings must tell members of one seed apart: got seed 0 twice"):
        select(grid(), [], [4, 5])
    with pytest.raises(ValueError, match=r"settings and value must be columns: got 'learning_rat'. Did you mean"):
        select(grid(), ["learning_rat"], [4, 5])


@pytest.mark.parametrize(
    ("n", "choosing"),
    [(33, (30, 31, 32)), (6, (3, 4, 5)), (5, (3, 4)), (4, (2, 3)), (3, (0, 1, 2))],
)
def test_few_seeds_choose_and_the_rest_reports(n, choosing):
    found = split_seeds(range(n))
    assert found[0] == choosing
    assert found[1] == (tuple(range(n)) if n < 4 else tuple(range(n - len(choosing))))


def curves(errors, values, activation="relu"):
    """Metrics of members whose error and update norm over tasks are given, `[M, K]`."""
    cells = np.ndindex(np.shape(errors))
    return pd.DataFrame(
        {"member": m, "activation": activation, "task": k, "when": "end", "error": errors[m][k]}
        | {"displacement_l1": values[m][k]}
        for m, k in cells
    )


def test_correlation_over_tasks_is_the_mean_over_members_of_scipys():
    rng = np.random.default_rng(0)
    errors, values = rng.random((6, 9)), rng.random((6, 9))
    found = task_correlations(curves(errors, values)).set_index("explanation").loc["update_norm"]
    rhos = [stats.spearmanr(x, y).statistic for x, y in zip(values, errors)]
    assert found["rho"] == pytest.approx(np.mean(rhos), rel=1e-12)
    low, high = stats.t.interval(0.95, 5, np.mean(rhos), stats.sem(rhos))
    assert (found["low"], found["high"]) == (pytest.approx(low, rel=1e-9), pytest.approx(high, rel=1e-9))
    assert (found["activation"], found["n"]) == ("relu", 6)


def test_differences_between_members_do_not_count_over_tasks():
    tasks = np.arange(5.0)
    errors = np.array([tasks, 100 + tasks])
    values = np.array([-tasks, 100 - tasks])
    found = task_correlations(curves(errors, values)).set_index("explanation").loc["update_norm"]
    assert (found["rho"], found["n"]) == (-1.0, 2)


def test_a_member_in_which_nothing_varies_has_no_correlation_over_tasks():
    tasks = np.arange(5.0)
    found = task_correlations(curves([tasks, tasks], [tasks, 0 * tasks])).set_index("explanation")
    assert found.loc["update_norm", "n"] == 1
    assert np.isnan(found.loc["update_norm", "low"])
    assert np.isnan(found.loc["hessian_srank", "rho"])
