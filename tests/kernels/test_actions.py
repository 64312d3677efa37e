"""What kernels do after an update: normal numbers of the seed contract, and tables that do not fit."""

import numba
import numpy as np
import pytest
import torch
from fastplast_kernels.train_step.actions import KINDS, OF_ROWS, Acted, Actions, check_actions
from fastplast_kernels.train_step.cpu.normal import CHUNK, fill_normal
from fastplast_kernels.train_step.cpu.simd import pointer

from fastplast import seeding

LAYERS, SHAPE, UPDATES = 2, (3, 32), 4


@numba.njit
def _fill(low, high, count, words, values):
    fill_normal(low, high, count, pointer(words), pointer(values))


@pytest.mark.parametrize("count", [32, 48, 2 * CHUNK, 2 * CHUNK + 16, 8_208])
def test_normal_numbers_are_those_of_the_seed_contract(count):
    """To rounding: of the angle, up to 2 pi, in float32, times a radius up to 5.8; words are the same to the bit."""
    found = np.zeros(count + 16, np.float32)
    for seed, update in ((0, 1), (7, 12_345_678)):
        (low, high), after = seeding.stream_keys(seed, "noise", update, 2)
        _fill(low, high, count, np.zeros(CHUNK, np.int64), found)
        expected = seeding.normal_float32(seed, "noise", count, update)
        np.testing.assert_allclose(found[:count], expected, rtol=0, atol=2 * np.pi * 5.8 * 2**-23)
        _fill(*after, count, np.zeros(CHUNK, np.int64), found)
        assert np.abs(found[:count] - expected).max() > 0.1
        np.testing.assert_allclose(
            found[:count], seeding.normal_float32(seed, "noise", count, update + 1), rtol=0, atol=5e-6
        )


def actions(kind: str, wrong: str = "", rows: tuple[int, int] = (1, 0), updates: int = UPDATES) -> Actions:
    """Two of three members, with a row too many in one tensor if asked for."""
    parts = [
        torch.zeros(2, *([SHAPE[1] + (name == wrong)] if name in OF_ROWS else [1] * (name == wrong)), dtype=dtype)
        for name, dtype in KINDS[kind].parts.items()
    ]
    settings = torch.zeros(2, len(KINDS[kind].settings) + (wrong == "settings"), dtype=torch.float64)
    of_layers = torch.zeros(2, LAYERS + (wrong == "of_layers"), dtype=torch.float64)
    draws, members = torch.tensor([True, False]), torch.tensor([2, 0])
    acted = Acted(kind, members, torch.tensor(rows), settings, of_layers, draws, parts)
    return Actions([acted], torch.zeros(SHAPE), torch.zeros(3, updates, 2, dtype=torch.int64))


@pytest.mark.parametrize("kind", KINDS)
def test_tables_of_the_right_shapes_are_taken_and_others_are_told(kind):
    check_actions(actions(kind), LAYERS, SHAPE, UPDATES)
    for wrong in ("settings", "of_layers", *KINDS[kind].parts):
        with pytest.raises(ValueError, match=f"{wrong} must have shape"):
            check_actions(actions(kind, wrong), LAYERS, SHAPE, UPDATES)
    with pytest.raises(ValueError, match=r"keys must have shape \(3, 4, 2\): got \(3, 5, 2\)"):
        check_actions(actions(kind, updates=5), LAYERS, SHAPE, UPDATES)


def test_rows_that_are_not_kept_and_an_unknown_kind_are_told():
    with pytest.raises(ValueError, match=r"rows must lie in 0\.\.1: got 0\.\.2\. Pass those of slow\."):
        check_actions(actions("average", rows=(2, 0)), LAYERS, SHAPE, UPDATES)
    acted = actions("clamp").acted[0]._replace(kind="clip")
    with pytest.raises(ValueError, match=r"kind of action is unknown: got 'clip'\. Choose one of clamp, average, "):
        check_actions(actions("clamp")._replace(acted=[acted]), LAYERS, SHAPE, UPDATES)
