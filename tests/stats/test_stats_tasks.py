"""The consistency of an explanation over tasks, against cases computed by hand."""

import numpy as np
import pandas as pd
import pytest

from fastplast.stats import Explanation, task_consistency, task_correlations

CLAIM = Explanation("curvature", "curvature", "start", -1)


def metrics(groups):
    """Metrics of members given as group to a list of (explanation over tasks, error over tasks)."""
    rows, number = [], 0
    for group, members in groups.items():
        for values, errors in members:
            for task, (value, error) in enumerate(zip(values, errors)):
                of = {"member": number, "activation": group, "task": task}
                rows.append(of | {"when": "start", "curvature": value, "error": np.nan})
                rows.append(of | {"when": "end", "curvature": np.nan, "error": error})
            number += 1
    return pd.DataFrame(rows)


UP, DOWN, FLAT = [1, 2, 3, 4], [4, 3, 2, 1], [5, 5, 5, 5]


def test_the_score_is_the_mean_sign_of_the_groups_mean_correlation():
    # relu: rho -1, -1, +1, mean -1/3, as claimed; tanh: +1, against; identity: the explanation does not vary, 0.
    table = metrics({"relu": [(DOWN, UP), (DOWN, UP), (UP, UP)], "tanh": [(UP, UP)] * 3, "identity": [(FLAT, UP)] * 3})
    found = task_consistency(table, CLAIM)
    assert found.score == pytest.approx((1 - 1 + 0) / 3)
    assert found.weakest == -1
    assert (found.agreeing, found.groups, found.n) == (1, 3, 9)
    rho = task_correlations(table, {"curvature": CLAIM}).set_index("activation")["rho"]
    assert rho["relu"] == pytest.approx(-1 / 3)


def test_members_whose_explanation_does_not_vary_tip_no_mean():
    table = metrics({"relu": [(DOWN, UP), (FLAT, UP), (FLAT, UP)]})
    assert task_consistency(table, CLAIM).score == 1
    assert task_consistency(table, CLAIM).weakest == 1


def test_the_interval_is_of_members_drawn_anew_within_groups():
    sure = metrics({"relu": [(DOWN, UP)] * 5, "tanh": [(DOWN, UP)] * 5})
    found = task_consistency(sure, CLAIM)
    assert (found.score, found.low, found.high) == (1, 1, 1)
    # Of two for and one against, 7 of 27 draws have more against: its sign is -1 with probability 0.26.
    unsure = metrics({"relu": [(DOWN, UP), (DOWN, UP), (UP, UP)]})
    found = task_consistency(unsure, CLAIM)
    assert (found.score, found.low, found.high) == (1, -1, 1)
    assert task_consistency(unsure, CLAIM, confidence=0.4).low == 1
    few = task_consistency(metrics({"relu": [(DOWN, UP)] * 2}), CLAIM)
    assert few.score == 1
    assert np.isnan(few.low)


def test_correlations_that_cancel_have_no_sign():
    assert task_consistency(metrics({"relu": [(DOWN, UP), (UP, UP)]}), CLAIM).score == 0


def test_groups_whose_error_does_not_vary_do_not_count():
    table = metrics({"relu": [(DOWN, UP)] * 3, "tanh": [(DOWN, FLAT)] * 3})
    assert task_consistency(table, CLAIM).groups == 1
    nothing = task_consistency(metrics({"tanh": [(DOWN, FLAT)] * 3}), CLAIM)
    assert nothing.groups == 0
    assert np.isnan(nothing.score)


def test_what_was_not_measured_has_no_sign_anywhere():
    other = Explanation("other", "other", "start", 1)
    assert task_consistency(metrics({"relu": [(DOWN, UP)] * 3}), other).score == 0


def test_a_confidence_that_is_no_coverage_is_refused():
    with pytest.raises(ValueError, match=r"confidence must lie between 0 and 1: got 95\."):
        task_consistency(metrics({"relu": [(DOWN, UP)]}), CLAIM, confidence=95)
