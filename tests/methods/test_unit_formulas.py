"""Which units methods choose, against their formulas: by hand, or by loops over weights."""

import pytest
import torch
from assertions import assert_close
from method_stage import Stage

from fastplast.methods import hidden_layers
from fastplast.methods.self_normalized import new_thresholds


def on_batch(*layers: list[float]) -> list[torch.Tensor]:
    """Features `[1, 2, O]` of each layer, the same on both examples."""
    return [torch.tensor([[values, values]]) for values in layers]


# Continual backprop


def test_cbp_resets_a_unit_whenever_the_rate_has_added_up_to_one():
    stage = Stage("cbp", fields={"widths": (100, 2)}, rate=3e-4, maturity=0, share_of="all")
    counts = [stage.update([torch.rand(1, 2, 100), torch.rand(1, 2, 2)])[0] for _ in range(170)]
    assert [step for step in range(1, 170) if counts[step] > counts[step - 1]] == [33, 66, 99, 133, 166]


def test_cbp_leaves_young_units_alone():
    stage = Stage("cbp", rate=0.5, maturity=5)
    counts = [sum(stage.update([torch.rand(1, 2, 4), torch.rand(1, 2, 3)])) for _ in range(12)]
    assert counts[:5] == [0] * 5
    assert counts[5] == 2 + 1  # half of four and of three; the rest is owed
    assert counts[9] == len(stage.reset_units()) == 7  # who was reset waits again: each unit once


@pytest.mark.parametrize(("utility", "goes"), [("adaptable_contribution", True), ("contribution", False)])
def test_cbp_takes_a_constant_unit_first_where_what_is_constant_is_of_no_use(utility, goes):
    stage = Stage("cbp", rate=0.25, maturity=5, share_of="all", utility=utility)
    torch.manual_seed(0)
    while not any(stage.state.kept["resets"][0, :1]):
        h = 0.1 * torch.rand(1, 2, 4)
        h[:, :, 2] = 5.0
        stage.update([h, torch.rand(1, 2, 3)])
    assert (2 in stage.reset_units()) == goes


@pytest.mark.parametrize("network", ["mlp", "cnn"])
@pytest.mark.parametrize(
    "utility",
    ["adaptable_contribution", "zero_contribution", "contribution", "weight", "adaptation", "feature_by_input"],
)
def test_cbp_utilities_are_those_of_loops_over_weights(utility, network):
    fields = {"network": network, "widths": (4, 3)} | ({"channels": (2, 3)} if network == "cnn" else {})
    stage = Stage("cbp", shape=(1, 6, 6), fields=fields, utility=utility)
    features = [h[None] for h in stage.network.forward(stage.state.params[0], torch.rand(5, 36))[1]]
    stage.update(features)
    for hidden, h in zip(hidden_layers(stage.network), features):
        weight, after = (stage.views()[name][0].double() for name in (hidden.weight, hidden.next_weight))
        found = stage.state.kept[f"cbp.utility.{hidden.layer.name}"][0] / (1 - 0.99)
        for unit in range(hidden.units):
            parts, spread = [], []
            for place in range(hidden.positions):
                own = h[0, :, unit].double().reshape(5, -1)
                own = own[:, place] if hidden.positions > 1 else own
                out = after[:, unit * hidden.positions + place].abs().mean()
                size = (own.abs() if utility in ("contribution",) else (own - own.mean()).abs()).mean()
                parts.append(out * (1.0 if utility == "weight" else size))
                spread.append(size)
            incoming = weight[unit].abs().mean()
            expected = {
                "adaptable_contribution": sum(parts) / len(parts) / incoming,
                "adaptation": 1 / incoming,
                "feature_by_input": sum(spread) / len(spread) / incoming,
            }.get(utility, sum(parts) / len(parts))
            assert_close(f"{hidden.layer.name} {unit}", found[unit], expected, dtype=torch.float64, length=1000)


# Dormant units, by activation and by gradient


@pytest.mark.parametrize(("threshold", "units"), [(0.0, [0]), (0.24, [0]), (0.25, [0, 1]), (1.75, [0, 1, 2, 4, 5, 6])])
def test_redo_resets_units_of_at_most_the_threshold_times_the_mean_of_their_layer(threshold, units):
    stage = Stage("redo", threshold=threshold, every=3, batches=1)
    h = on_batch([0.0, -0.125, 0.875, 1.0], [1.0, 1.0, 1.0])
    assert [sum(stage.update(h)) for _ in range(3)] == [0, 0, len(units)]
    assert stage.reset_units() == units


def test_redo_averages_over_the_last_minibatches_and_resets_a_layer_that_is_all_zero():
    stage = Stage("redo", threshold=0.1, every=3, batches=2)
    stage.update(on_batch([9.0, 0.0, 0.0, 0.0], [0.0] * 3))
    stage.update(on_batch([0.0, 1.0, 0.0, 0.0], [0.0] * 3))
    assert stage.update(on_batch([0.0, 0.0, 1.0, 0.0], [0.0] * 3)) == [2, 3]
    assert stage.reset_units() == [0, 3, 4, 5, 6]


@pytest.mark.parametrize(("threshold", "units"), [(0.24, [0]), (0.25, [0, 1])])
def test_regrama_does_the_same_with_gradients_of_incoming_weights(threshold, units):
    stage = Stage("regrama", threshold=threshold, every=1)
    grads = stage.zeros()
    for name, view in stage.views(grads).items():
        view.fill_(1.0)
        if name == "fc1.weight":
            view.copy_(torch.tensor([0.0, -0.125, 0.875, 1.0])[None, :, None].expand_as(view))
    assert stage.update(grads=grads) == [len(units), 0]
    assert stage.reset_units() == units


# Self-normalised resets


@pytest.mark.parametrize(("rate", "old", "new"), [(0.1, 5, 4), (0.08, 7, 6), (0.08, 5, 10), (0.1, 3, 6), (0.08, 15, 6)])
def test_snr_thresholds_are_the_quantile_of_silences_or_twice_the_old_one(rate, old, new):
    past = torch.zeros(1, 1, 21, dtype=torch.int32)
    past[0, 0, [0, 2, 4, 6]] = torch.tensor([50, 6, 3, 1], dtype=torch.int32)
    rates, ceiling = torch.tensor([rate], dtype=torch.float64), torch.tensor([20.0])
    assert new_thresholds(past, torch.tensor([[old]]), rates, ceiling).item() == new
    assert new_thresholds(past, torch.tensor([[old]]), rates, torch.tensor([3.0])).item() == 3
    past[0, 0, 1:] = 0
    assert new_thresholds(past, torch.tensor([[old]]), rates, ceiling).item() == 1  # a unit that was never silent


def test_snr_resets_a_unit_whose_silence_reaches_its_threshold_and_counts_silences():
    stage = Stage("snr", ceiling=3)
    speaks, silent = [1.0, 1.0, 1.0, 1.0], [0.0, 1.0, -1.0, 1.0]
    for first in (speaks, silent, silent, speaks, silent, silent):
        assert sum(stage.update(on_batch(first, [1.0] * 3))) == 0
    assert stage.state.kept["snr.silence.fc1"].tolist() == [[2, 0, 2, 0]]
    assert stage.state.kept["snr.past.fc1"][0, 0].tolist() == [1, 0, 1, 0]
    assert stage.update(on_batch(silent, [1.0] * 3)) == [2, 0]
    assert stage.reset_units() == [0, 2]
    assert stage.state.kept["snr.silence.fc1"].tolist() == [[0, 0, 0, 0]]
    assert stage.state.kept["snr.past.fc1"][0, 0].tolist() == [1, 0, 1, 1]
