"""What kernels are told of units: coefficients of weights by age, and tables that do not fit."""

import numpy as np
import pytest
import torch
from assertions import assert_close
from fastplast_kernels.optimisers import Hyperparameters
from fastplast_kernels.train_step.arguments import Span, check_span, whole_span
from fastplast_kernels.train_step.cpu import births
from fastplast_kernels.train_step.cpu.births import TABLE
from fastplast_kernels.train_step.cpu.plan import plan
from fastplast_kernels.train_step.cpu.records import Pointers
from fastplast_kernels.train_step.layers import ConvLayer, DenseLayer
from fastplast_kernels.train_step.units import KINDS, Units, Watched, check_units
from from_python import from_python

from fastplast.config import Experiment
from fastplast.engines.kernel_layers import kernel_layers
from fastplast.methods import count_units, own_coefficients
from fastplast.networks import Network, build_network

fill_powers, power, age_units = map(from_python, (births.fill_powers, births.power, births.age_units))
spread_ages, spread_columns = map(from_python, (births.spread_ages, births.spread_columns))
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


@pytest.mark.parametrize("same", [True, False], ids=["both sides", "each side"])
@pytest.mark.parametrize("activation", ["relu", "crelu"])
@pytest.mark.parametrize("network", ["mlp", "cnn", "convnet"])
def test_a_weight_has_the_coefficients_of_the_later_birth_of_its_row_and_its_column(network, activation, same):
    channels = {"mlp": None, "cnn": (3, 4), "convnet": (3, 4, 5)}[network]
    sizes = {"channels": channels, "widths": (17, 5), "activation": activation}
    net = build_network(Experiment(network=network, **sizes), (2, 24, 24), 3)
    assert isinstance(net, Network)
    torch.manual_seed(0)
    units, since, number, rate = count_units(net), 20, 70_001, 0.1
    born = torch.randint(0, number, (2, units))
    born[:, ::3] = torch.randint(number - 40, number, (2, len(born[0, ::3])))
    born[1] = born[0] if same else born[1]
    hyper = Hyperparameters(*(torch.tensor([x], dtype=torch.float64) for x in (rate, 0.9, 0.999, 0.0, 0.0, 0.0, 0.0)))
    steps = torch.tensor([number])
    rates, roots = map(net.layout.views, own_coefficients(net, born[None], torch.tensor([since]), steps, hyper))
    powers, found = np.zeros((2, TABLE)), np.zeros((2, 2 * units + 1), np.float32)
    for beta, table in zip((0.9, 0.999), powers):
        fill_powers(beta, table)
    age_units(born.numpy(), since, number, rate, powers, found)
    moved, layers = Pointers(*[0] * 8), plan(kernel_layers(net, "mean"), 4).layers
    firsts = [*np.cumsum([0, *(layer.outputs for layer in layers[:-2])]).tolist(), -1]
    for i, (layer, own) in enumerate(zip(layers, net.layers)):
        values = np.zeros(16 + 2 * layer.row + 2 * (own.weight_shape[1] * 9 + 16 + net.layout.size), np.float32)
        below = (firsts[i - 1], layers[i - 1].outputs) if i else (-1, layer.outputs)
        at = spread_ages(layer, firsts[i], *below, found, moved, values)
        expected = [view[f"{own.name}.weight"][0].flatten(1).T for view in (rates, roots)]  # [I, O]
        rows, columns = (np.arange(n) for n in expected[0].shape)
        of_rows = [values[at.inputs + rows], values[at.inputs + at.roots_of_inputs + rows]]
        of_columns = [values[at.outputs + columns], values[at.outputs + at.roots_of_outputs + columns]]
        for kind, sign in enumerate((1, -1)):
            later = np.maximum(of_rows[kind][:, None], of_columns[kind])
            assert_close(f"{own.name} {kind}", sign * later, expected[kind])
        bias = [view[f"{own.name}.bias"][0] for view in (rates, roots)]
        assert_close("bias", np.maximum(values[0], of_columns[0]), bias[0])
        assert_close("bias", -np.maximum(values[1], of_columns[1]), bias[1])
        if i == 0:
            at = spread_columns(layer, firsts[i], found, np.float32(-1e-3), moved, values)
            complete = values[columns], values[at.roots_of_outputs + columns]
            assert_close("rates of columns", -complete[0], (expected[0] * expected[1])[0])
            assert_close("epsilons of columns", complete[1], 1e-3 * expected[1][0])


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
