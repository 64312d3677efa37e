"""The line through points of several members, and the interval of its correlation."""

import numpy as np

from fastplast.stats import least_squares


def test_correlation_is_pearsons_and_the_line_least_squares():
    rng = np.random.default_rng(0)
    x = rng.random((6, 5)) * 1e4 + 1e6
    y = 0.3 * x + 1000 * rng.random((6, 5))
    x[0, 0] = y[1, 1] = np.nan
    present = np.isfinite(x) & np.isfinite(y)
    line = least_squares(x, y)
    assert line is not None
    np.testing.assert_allclose(line.r, np.corrcoef(x[present], y[present])[0, 1], rtol=1e-9)
    np.testing.assert_allclose([line.slope, line.intercept], np.polyfit(x[present], y[present], 1), rtol=1e-6)
    assert line.low < line.r < line.high <= 1
    assert line.points == present.sum() == 28


def test_the_interval_of_a_correlation_resamples_members_not_points():
    """Members that repeat one point each say no more the more often they repeat it."""
    rng = np.random.default_rng(1)
    x, y = rng.random((2, 12, 1))
    few, many = least_squares(x, y), least_squares(np.repeat(x, 50, 1), np.repeat(y, 50, 1))
    assert few is not None
    assert many is not None
    np.testing.assert_allclose([few.r, few.low, few.high], [many.r, many.low, many.high], rtol=1e-9)


def test_what_does_not_vary_has_no_correlation():
    assert least_squares(np.ones((3, 4)), np.random.default_rng(0).random((3, 4))) is None
    line = least_squares(np.random.default_rng(0).random((3, 4)), np.zeros((3, 4)))
    assert line is not None
    assert np.isnan(line.r)
