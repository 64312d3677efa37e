import numpy as np
import pytest
from scipy import special, stats

from fastplast.stats import bootstrap_interval, interquartile_mean, mean_interval, within_range

EPSILON = np.finfo(np.float64).eps


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(3.0, 2.0, (30, 7))


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_mean_interval_is_scipys_t_interval(values, confidence):
    found = mean_interval(values, confidence)
    low, high = stats.t.interval(confidence, len(values) - 1, values.mean(0), stats.sem(values))
    np.testing.assert_allclose(found.estimate, values.mean(0), rtol=30 * EPSILON)
    np.testing.assert_allclose(found.low, low, rtol=1e-12)
    np.testing.assert_allclose(found.high, high, rtol=1e-12)
    assert found.n.tolist() == [30] * 7


def test_mean_interval_of_two_members_has_a_closed_form():
    found = mean_interval([1.0, 3.0])  # s / sqrt(n) = 1, and t(0.975, 1) = tan(0.475 pi)
    assert found.estimate == 2.0
    assert found.high - 2.0 == pytest.approx(np.tan(0.475 * np.pi), rel=1e-12)
    assert 2.0 - found.low == pytest.approx(np.tan(0.475 * np.pi), rel=1e-12)


def test_one_member_has_a_mean_and_no_interval():
    found = mean_interval([[1.0, 2.0]])
    assert found.estimate.tolist() == [1.0, 2.0]
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()
    assert np.isnan(bootstrap_interval([[1.0, 2.0]]).low).all()


@pytest.mark.parametrize("interval", [mean_interval, bootstrap_interval])
def test_members_without_a_value_are_as_if_they_were_not_there(values, interval):
    holes = values.copy()
    holes[::3, 2] = np.nan
    holes[1:, 4] = np.nan
    holes[:, 5] = np.nan
    found, full = interval(holes), interval(values)
    alone = interval(np.delete(values[:, 2], np.s_[::3]))
    assert found.n.tolist() == [30, 30, 20, 30, 1, 0, 30]
    for name in ("estimate", "low", "high"):
        column = getattr(found, name)
        np.testing.assert_allclose(column[2], getattr(alone, name), rtol=30 * EPSILON)
        np.testing.assert_array_equal(column[[0, 1, 3, 6]], getattr(full, name)[[0, 1, 3, 6]])
        assert np.isnan(column[5])
    assert found.estimate[4] == holes[0, 4]
    assert np.isnan(found.low[4])


@pytest.mark.parametrize("n", [1, 3, 4, 7, 30])
def test_interquartile_mean_is_scipys_trimmed_mean(values, n):
    expected = stats.trim_mean(values[:n], 0.25)
    np.testing.assert_allclose(interquartile_mean(values[:n]), expected, rtol=30 * EPSILON)


def test_interquartile_mean_ignores_outliers_and_nan():
    assert interquartile_mean([1e9, 2.0, 4.0, -1e9, np.nan]) == 3.0
    assert np.isnan(interquartile_mean([np.nan, np.nan]))


@pytest.mark.parametrize(("statistic", "function"), [("mean", np.mean), ("iqm", interquartile_mean)])
def test_bootstrap_interval_holds_the_estimate_and_is_near_scipys(values, statistic, function):
    found = bootstrap_interval(values, statistic)
    np.testing.assert_allclose(found.estimate, function(values, 0) if statistic == "mean" else function(values))
    assert ((found.low < found.estimate) & (found.estimate < found.high)).all()
    reference = stats.bootstrap((values,), lambda x, axis: stats.trim_mean(x, 0.25 * (statistic == "iqm"), axis),
                                axis=0, method="percentile").confidence_interval  # fmt: skip
    width = reference.high - reference.low  # the ends of 9999 draws scatter by about a hundredth of it
    np.testing.assert_array_less(abs(found.low - reference.low), 0.1 * width)
    np.testing.assert_array_less(abs(found.high - reference.high), 0.1 * width)


def test_bootstrap_interval_is_reproducible_and_keeps_the_shape():
    x = np.random.default_rng(1).normal(size=(5, 2, 3))
    first, second = bootstrap_interval(x, seed=3), bootstrap_interval(x, seed=3)
    assert first.low.shape == first.n.shape == (2, 3)
    np.testing.assert_array_equal(first.low, second.low)


def test_members_that_agree_have_an_interval_of_no_width():
    for found in (mean_interval(np.ones((4, 2))), bootstrap_interval(np.ones((4, 2)))):
        assert found.low.tolist() == found.estimate.tolist() == found.high.tolist() == [1.0, 1.0]


def test_wrong_arguments_are_errors_that_say_what_to_do():
    with pytest.raises(ValueError, match=r"statistic must be a known name: got 'median'. .*Known: mean, iqm\."):
        bootstrap_interval([1.0], "median")
    with pytest.raises(ValueError, match=r"confidence must lie between 0 and 1: got 95. Say 0.95"):
        mean_interval([1.0], 95)
    with pytest.raises(ValueError, match=r"values must be `\[M, ...\]` with at least one member: got shape \(0, 3\)"):
        interquartile_mean(np.zeros((0, 3)))


def test_an_infinite_value_has_a_mean_and_no_interval():
    found = mean_interval([1.0, np.inf])
    assert found.estimate == np.inf
    assert np.isnan(found.low)


@pytest.mark.parametrize(("least", "most"), [(0.0, 1.0), (-1.0, 1.0), (0.0, np.inf)])
def test_intervals_within_a_range_hold_the_mean_and_nothing_impossible(least, most):
    rng = np.random.default_rng(0)
    for n in (2, 3, 10, 30):
        values = rng.beta(0.2, 0.4, size=(n, 200)) * (min(most, 5) - least) + least
        found = within_range(mean_interval(values), least, most)
        assert (found.low >= least).all()
        assert (found.high <= most).all()
        assert (found.low <= found.estimate).all()
        assert (found.estimate <= found.high).all()
        np.testing.assert_array_equal(found.estimate, mean_interval(values).estimate)


@pytest.mark.parametrize(("least", "most"), [(0.0, 1.0), (0.0, np.inf)])
def test_narrow_intervals_within_a_range_are_t_intervals(least, most):
    values = 0.4 + 1e-4 * np.random.default_rng(0).normal(size=(10, 50))
    plain, found = mean_interval(values), within_range(mean_interval(values), least, most)
    np.testing.assert_allclose(found.low, plain.low, atol=1e-7)
    np.testing.assert_allclose(found.high, plain.high, atol=1e-7)
    assert np.abs(found.low - plain.low).max() > 0


def test_an_interval_within_a_range_is_that_of_its_equation():
    found = within_range(mean_interval([0.0, 0.0, 0.3]), 0, 1)
    half = special.stdtrit(2, 0.975) * np.std([0.0, 0.0, 0.3], ddof=1) / np.sqrt(3)
    angle, shift = np.arcsin(np.sqrt(0.1)), half / (2 * np.sqrt(0.1 * 0.9))
    assert found.high == pytest.approx(np.sin(angle + shift) ** 2)
    assert found.low == 0
    above = within_range(mean_interval([0.0, 0.0, 3.0]), 0)
    assert above.high == pytest.approx((1 + 10 * half / 2) ** 2)


def test_equal_values_have_a_point_for_an_interval_and_single_ones_none():
    for value in (0.0, 0.4, 1.0):
        found = within_range(mean_interval([value] * 3), 0, 1)
        assert [found.low, found.high] == pytest.approx([value, value])
    assert np.isnan(within_range(mean_interval([0.4]), 0, 1).high)
    free = within_range(mean_interval([0.0, 1.0]), -np.inf)
    assert free.low < 0


def test_a_range_must_have_a_lower_end():
    for least, most in ((1.0, 0.0), (-np.inf, 1.0)):
        with pytest.raises(ValueError, match="least must lie below most, and be finite where most is"):
            within_range(mean_interval([0.1, 0.2]), least, most)
