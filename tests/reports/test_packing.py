import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from unpacking import unpack

from fastplast.reports.packing import pack


def test_whole_numbers_are_kept_exactly():
    values = np.array([[0, 2410, 7], [3, 4, -5]], float)
    np.testing.assert_array_equal(unpack(pack(values)), values)


def test_missing_values_stay_missing():
    values = np.array([np.nan, 0.25, np.inf])
    np.testing.assert_array_equal(np.isnan(unpack(pack(values))), [True, False, True])
    assert np.isnan(unpack(pack(np.full((2, 3), np.nan)))).all()


def test_values_over_many_decades_keep_their_digits_and_their_zeros():
    values = np.array([0.0, 1e-12, 3.3e-5, 0.7, 2e3])
    found = unpack(pack(values))
    assert found[0] == 0.0
    decades = np.log(2e3 / 1e-12)
    np.testing.assert_allclose(found, values, rtol=0.51 * decades / 65533)


@given(arrays.arrays(np.float64, st.integers(1, 30), elements=st.floats(-1e6, 1e6)))
def test_no_value_is_off_by_more_than_half_a_step(values):
    packed = pack(values)
    found = unpack(packed)
    if packed["log"]:
        np.testing.assert_allclose(found, values, rtol=np.expm1(packed["step"]), atol=0)
    else:
        rounding = np.finfo(float).eps * np.abs(values).max(initial=0.0)
        np.testing.assert_allclose(found, values, rtol=0, atol=0.5 * packed["step"] * (1 + 1e-9) + 4 * rounding)


@pytest.mark.parametrize("value", [0.0, 0.3, -2.5e-300, 1e300])
def test_a_constant_is_kept(value):
    np.testing.assert_allclose(unpack(pack(np.full(3, value))), value)
