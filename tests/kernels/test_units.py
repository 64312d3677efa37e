"""What kernels are told of units: powers of the betas, and tables that do not fit."""

import numpy as np
import pytest
import torch
from fastplast_kernels.train_step.arguments import Span, check_span, whole_span
from fastplast_kernels.train_step.cpu.births import TABLE, fill_powers, power
from fastplast_kernels.train_step.layers import ConvLayer, DenseLayer
from fastplast_kernels.train_step.units import KINDS, Units, Watched, check_units

EPS = np.finfo(np.float64).eps
LAYERS = (ConvLayer(1, 4, 4, 3, 3, 1, 1, 0, 0), DenseLayer(48, 5, 0, 0), DenseLayer(5, 2, 0, 0))
SHAPES = {"mean": ((2, 48), (2, 5)), "owed": ((2,), (2,)), "past": ((2, 3, 9), (2, 5, 9))}


def units(kind: str, wrong: str = "", born: int = 8) -> Units:
    """Two watched of three members, with a row too many in one part if asked for."""
    parts = []
    for layer, outputs in enumerate((3, 5)):
        tensors = []
        for name, dtype in KINDS[kind].parts.items():
            rows, *shape = SHAPES[name][layer] if name in SHAPES else (2, outputs)
            tensors.append(torch.zeros(rows + (name == wrong), *shape, dtype=dtype))
        parts.append(tensors)
    settings = torch.zeros(2, len(KINDS[kind].settings), dtype=torch.float64)
    return Units([Watched(kind, torch.tensor([2, 0]), settings, parts)], torch.zeros(3, 2, born, dtype=torch.int64))


@pytest.mark.parametrize("base", [0.0, 0.9, 0.999, 0.9999999])
def test_tabled_powers_are_powers(base):
    table = np.zeros(TABLE)
    fill_powers(base, table)
    for n in (0, 1, 2, 255, 256, 257, 65_535, 65_536, 3_000_001, 20_000_000):
        assert power(table, n) == pytest.approx(base**n, rel=4 * EPS * max(n, 1), abs=1e-300)


@pytest.mark.parametrize("kind", KINDS)
def test_tables_of_the_right_shapes_are_taken_and_others_are_told(kind):
    check_units(units(kind), LAYERS, 3)
    for name in KINDS[kind].parts:
        with pytest.raises(ValueError, match=rf"{name} must have shape \(2,.*: got \(3,"):
            check_units(units(kind, name), LAYERS, 3)
    with pytest.raises(ValueError, match=r"born must have shape \(3, 2, 8\): got \(3, 2, 7\)"):
        check_units(units(kind, born=7), LAYERS, 3)


def test_an_unknown_kind_is_told():
    watched = units("silence").watched[0]._replace(kind="noise")
    with pytest.raises(ValueError, match=r"kind of what is watched is unknown: got 'noise'\. Choose one of utility, "):
        check_units(units("silence")._replace(watched=[watched]), LAYERS, 3)


@pytest.mark.parametrize("name", ["begin", "end"])
def test_updates_that_are_not_in_the_order_are_told(name):
    order = torch.zeros(3, 4, 2, dtype=torch.int64)
    since, span = torch.zeros(3, dtype=torch.int64), whole_span(order)
    assert span.begin.tolist() == [0, 0, 0]
    assert span.end.tolist() == [4, 4, 4]
    check_span(span, since, order)
    with pytest.raises(ValueError, match=rf"{name} must lie in 0\.\.4: got 5\.\.5"):
        check_span(Span(**span._asdict() | {name: torch.full((3,), 5)}), since, order)
