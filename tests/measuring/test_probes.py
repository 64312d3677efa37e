"""Every metric against a short definition of its own, in numpy."""

import math
import re

import numpy as np
import pytest
import torch
from assertions import assert_close, assert_same_bits
from torch import Tensor, nn
from torch.nn import functional

from fastplast.config import DEFINITIONS, ELEMENTWISE, NETWORK_NAMES
from fastplast.engines import Accumulators
from fastplast.measuring import probes
from fastplast.measuring.probes import Evaluation, evaluate, feature_columns, update_columns, weight_columns

FP64 = {"dtype": torch.float64, "factor": 64.0}


def moved(trial, seed: int = 0):
    """The trial with parameters away from their initial values, biases included."""
    torch.manual_seed(seed)
    for slot in trial.group.layout.slots:
        trial.state.params[:, slot.slice] += 0.3 * torch.randn(len(trial.group.members), slot.count)
    return trial


def evaluation(**features: np.ndarray) -> Evaluation:
    """What ``evaluate`` would give for features `[N, F]`."""
    tensors = {name: torch.from_numpy(np.asarray(h, dtype=np.float64)) for name, h in features.items()}
    magnitudes = {name: h.abs().mean(0) for name, h in tensors.items()}
    return Evaluation(0.0, 0.0, torch.empty(0), tensors, tensors, magnitudes, torch.empty(0))


def srank(matrix: np.ndarray) -> float:
    s = np.linalg.svd(matrix, compute_uv=False)
    return float(1 + np.argmax(np.cumsum(s) / s.sum() > 0.99))


@pytest.mark.parametrize(
    "fields",
    [
        {"network": "mlp"},
        {"network": "mlp", "widths": (9,)},
        {"network": "cnn", "benchmark": "cifar_shuffle"},
        {"network": "cnn", "benchmark": "cifar_shuffle", "widths": (9,)},
    ],
    ids=str,
)
def test_tail_inputs_are_what_enters_the_last_two_layers(fields: dict, make_trial) -> None:
    trial = moved(make_trial(**{"benchmark": "mnist_shuffle", **fields}))
    network, row = trial.group.network, trial.state.params[1]
    task = trial.task(0)
    below = evaluate(network, row, task, 1).tail_inputs
    views = {name: view[0].double() for name, view in network.layout.views(row[None]).items()}
    first, last = (layer.name for layer in network.layers[-2:])
    hidden = torch.relu(below @ views[f"{first}.weight"].T + views[f"{first}.bias"])
    logits = hidden @ views[f"{last}.weight"].T + views[f"{last}.bias"]
    expected, _ = network.forward(row, task.inputs(torch.arange(40).expand(3, 40))[1], torch.float64)
    assert_close("logits", logits, expected.double(), length=36, factor=64.0)


@pytest.mark.parametrize("activation", ELEMENTWISE)
@pytest.mark.parametrize("name", NETWORK_NAMES)
def test_evaluation_equals_a_float64_module_on_all_examples(name: str, activation: str, make_trial) -> None:
    convolutional = name in ("cnn", "convnet")
    family = "cifar" if convolutional else "mnist"
    trial = moved(make_trial(benchmark=f"{family}_permute", network=name, activation=activation))
    for member, task in ((0, trial.task(1)), (2, trial.task(3))):
        found = evaluate(trial.group.network, trial.state.params[member], task, member)
        module = trial.ordinary(member).module.double()
        for parameter, slot in zip(module.parameters(), trial.group.layout.slots):
            parameter.data = trial.state.params[member, slot.slice].double().reshape(parameter.shape)
        x = task.inputs(torch.arange(40).expand(3, 40))[member].double()
        outputs = [x]
        for stage in module:
            outputs.append(stage(outputs[-1]).detach())
        hidden = [outputs[i + 2] for i, s in enumerate(module[:-1]) if isinstance(s, (nn.Conv2d, nn.Linear))]
        # Convolutions run in float32, dense layers in float64.
        near = {"dtype": torch.float32, "length": 36, "factor": 16.0} if convolutional else {**FP64, "length": 36}
        assert_close("loss", found.loss, functional.cross_entropy(outputs[-1], task.labels[member]), **near)
        assert found.error == float((outputs[-1].argmax(1) != task.labels[member]).double().mean())
        assert [*found.features] == [*found.magnitudes] == [*trial.group.network.feature_names]
        for h, feature, magnitude in zip(hidden, found.features.values(), found.magnitudes.values(), strict=True):
            size, h = float(h.abs().max()), h.reshape(40, h.shape[1], -1)
            assert_close("features", feature, h.mean(2), scale=size, **near)
            assert_close("magnitudes", magnitude, h.abs().mean((0, 2)), scale=size, **near)
            assert feature.dtype == magnitude.dtype == torch.float64


def test_the_numbers_of_a_member_do_not_depend_on_the_others(make_trial) -> None:
    together, alone = moved(make_trial(seeds=(4, 9, 2))), make_trial(seeds=(9,))
    a = evaluate(together.group.network, together.state.params[1], together.task(1), 1)
    b = evaluate(alone.group.network, together.state.params[1], alone.task(1), 0)
    assert (a.loss, a.error, feature_columns(a)) == (b.loss, b.error, feature_columns(b))


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.head = nn.Linear(36, 7), nn.LayerNorm(7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(functional.dropout(torch.tanh(self.norm(self.body(x.flatten(1)))), 0.5, self.training))


def test_a_module_is_evaluated_without_dropout_and_its_features_are_the_inputs_of_its_last_layer(make_trial) -> None:
    trial = make_trial(module=Noisy)
    trial.train(1)
    found = evaluate(trial.group.network, trial.state.params[1], trial.task(), 1)
    module = Noisy().eval()
    module.load_state_dict(trial.group.layout.views(trial.state.params[1]))
    x = trial.task().inputs(torch.arange(40).expand(3, 40))[1].double()
    hidden = torch.tanh(module.double().norm(module.body(x)))
    assert_close("features", found.features["last"], hidden, length=36, **FP64)
    assert_close("loss", found.loss, functional.cross_entropy(module(x), trial.task().labels[1]), length=36, **FP64)


def test_columns_of_features_equal_their_definitions() -> None:
    rng = np.random.default_rng(0)
    layers = {
        "fc1": np.maximum(rng.normal(-0.8, 1, (50, 12)), 0),
        "fc2": rng.normal(0, 1, (50, 9)) * 4.0 ** -np.arange(9),
    }
    layers["fc1"][:, [3, 7]] = 0
    columns = feature_columns(evaluation(**layers))
    for name, h in layers.items():
        assert columns[f"feature_srank_{name}"] == srank(h)
    mean_abs = {name: np.abs(h).mean(0) for name, h in layers.items()}
    scores = np.concatenate([a / a.mean() for a in mean_abs.values()])
    share = mean_abs["fc2"] / mean_abs["fc2"].sum()
    assert columns["dormant_fraction"] == np.mean(scores <= 0.1)
    assert columns["dead_fraction"] == 2 / 21
    assert_close("entropy", columns["activation_entropy"], -(share * np.log(share)).sum(), length=9, **FP64)
    assert 2 / 21 < columns["dormant_fraction"] < 1


def test_entropy_of_units_that_share_equally_is_the_logarithm_of_their_number() -> None:
    uniform = feature_columns(evaluation(fc1=np.tile([1.0, -1.0], (10, 16))))
    assert_close("entropy", uniform["activation_entropy"], math.log(32), length=32, **FP64)
    assert feature_columns(evaluation(fc1=np.eye(5)[:, :1]))["activation_entropy"] == 0.0
    two = feature_columns(evaluation(fc1=np.array([[3.0, 0.0, -3.0, 0.0]])))
    assert_close("entropy of two", two["activation_entropy"], math.log(2), **FP64)


def test_entropy_is_of_the_last_hidden_layer() -> None:
    columns = feature_columns(evaluation(fc1=np.ones((4, 50)), fc2=np.ones((4, 3))))
    assert_close("entropy", columns["activation_entropy"], math.log(3), **FP64)


def test_features_that_are_all_zero_are_dead_dormant_and_of_rank_and_entropy_zero() -> None:
    columns = feature_columns(evaluation(fc1=np.zeros((6, 4))))
    expected = {"feature_srank_fc1": 0.0, "dormant_fraction": 1.0, "dead_fraction": 1.0, "activation_entropy": 0.0}
    assert columns == expected


def test_a_unit_at_the_threshold_is_dormant_and_one_just_above_is_not() -> None:
    at = feature_columns(evaluation(fc1=np.array([[0.1, 1.9]])))
    above = feature_columns(evaluation(fc1=np.array([[np.nextafter(0.1, 1), 1.9]])))
    assert (at["dormant_fraction"], above["dormant_fraction"]) == (0.5, 0.0)
    assert probes.DORMANT_THRESHOLD == 0.1


def test_a_unit_that_is_zero_on_all_but_one_example_is_not_dead() -> None:
    h = np.zeros((100, 3))
    h[:, 0], h[42, 1] = 1.0, -1e-30
    assert feature_columns(evaluation(fc1=h))["dead_fraction"] == 1 / 3


def test_dead_units_of_a_network_are_counted_over_all_layers_and_channels(make_trial) -> None:
    trial = make_trial(benchmark="cifar_shuffle", init="torch_default")
    views = trial.group.layout.views(trial.state.params)
    views["conv1.bias"][0, 2] = views["fc1.bias"][0, 4] = views["fc2.bias"][0, 1] = -1e3
    found = evaluate(trial.group.network, trial.state.params[0], trial.task(), 0)
    killed = [found.magnitudes[name][unit] for name, unit in (("conv1", 2), ("fc1", 4), ("fc2", 1))]
    assert killed == [0.0, 0.0, 0.0]
    columns, dead = feature_columns(found), sum(int((h == 0).all(0).sum()) for h in found.features.values())
    assert columns["dead_fraction"] == dead / (4 + 5 + 9 + 8)
    assert 3 / 26 <= columns["dead_fraction"] <= columns["dormant_fraction"] < 1


def test_a_convolutions_features_are_averaged_over_space_and_its_activations_by_absolute_value(make_trial) -> None:
    trial = moved(make_trial(benchmark="cifar_shuffle", activation="tanh"))
    found = evaluate(trial.group.network, trial.state.params[0], trial.task(), 0)
    assert {name: h.shape[1] for name, h in found.features.items()} == {"conv1": 4, "conv2": 5, "fc1": 9, "fc2": 8}
    assert (found.magnitudes["conv1"] > found.features["conv1"].abs().mean(0)).all()


def test_columns_of_weights_equal_their_definitions(make_trial) -> None:
    trial = moved(make_trial(benchmark="cifar_shuffle"))
    row, init, layout = trial.state.params[1], trial.state.init[1], trial.group.layout
    columns = weight_columns(row, init, layout)
    w, w0 = (trial.true_parameters(t[None])[0].double().numpy() for t in (row, init))
    expected = {
        "weight_norm_l1": np.abs(w).mean(),
        "weight_norm_l2": np.sqrt((w**2).sum()),
        "init_distance_l1": np.abs(w - w0).mean(),
        "init_distance_l2": np.sqrt(((w - w0) ** 2).sum()),
    }
    for slot in layout.slots:
        if slot.is_weight:
            matrix = row[slot.slice].double().numpy().reshape(slot.shape[0], -1)
            expected[f"weight_norm_l1_{slot.name[:-7]}"] = np.abs(matrix).mean()
            expected[f"weight_srank_{slot.name[:-7]}"] = srank(matrix)
    assert columns.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(name, columns[name], value, length=layout.count, **FP64)
    assert {"weight_srank_conv1", "weight_srank_fc3", "weight_norm_l1_conv2"} <= columns.keys()


def test_columns_of_updates_are_means_over_updates_and_distances_from_the_tasks_start(make_trial) -> None:
    trial = make_trial(learning_rate=0.01)
    trial.train(1)
    at_start = trial.state.params.clone()
    sums = trial.train(3, task=1)
    columns = update_columns(sums, trial.state, at_start, trial.group.layout)
    for name, total in (("online_loss", "loss"), ("online_error", "error"), ("update_l1_mean", "update_l1"),
                        ("update_l2_mean", "update_l2")):  # fmt: skip
        assert_close(name, columns[name], getattr(sums, total) / 9, **FP64)
    change = trial.true_parameters(trial.state.params).double() - trial.true_parameters(at_start).double()
    assert_close("displacement_l1", columns["displacement_l1"], change.abs().mean(1), length=1000, **FP64)
    assert_close("displacement_l2", columns["displacement_l2"], change.square().sum(1).sqrt(), length=1000, **FP64)
    assert all(value.dtype == torch.float64 for value in columns.values())


def test_a_member_without_updates_has_no_online_loss_and_no_displacement(make_trial) -> None:
    trial = make_trial()
    columns = update_columns(Accumulators.zeros(3), trial.state, trial.state.params, trial.group.layout)
    for name in ("online_loss", "online_error", "update_l1_mean", "update_l2_mean"):
        assert columns[name].isnan().all()
    for name in ("displacement_l1", "displacement_l2"):
        assert (columns[name] == 0).all()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("family", ["mnist", "cifar"])
def test_metrics_of_non_finite_weights_are_not_numbers(family: str, value: float, make_trial) -> None:
    trial = make_trial(benchmark=f"{family}_shuffle", activation="identity")
    slot = trial.group.layout.slots[0]
    trial.state.params[0, slot.offset] = value
    row, init, layout = trial.state.params[0], trial.state.init[0], trial.group.layout
    found = evaluate(trial.group.network, row, trial.task(), 0)
    columns = {"loss": found.loss, "error": found.error} | feature_columns(found) | weight_columns(row, init, layout)
    first, others = slot.name[:-7], [s.name[:-7] for s in layout.slots[1:] if s.is_weight]
    untouched = {f"{kind}_{name}" for kind in ("weight_srank", "weight_norm_l1") for name in others}
    assert all(math.isfinite(columns[name]) for name in untouched)
    assert {n: v for n, v in columns.items() if n not in untouched and math.isfinite(v)} == {}
    assert math.isnan(columns[f"weight_srank_{first}"])


def test_every_column_has_a_definition(make_trial) -> None:
    trial = make_trial(benchmark="cifar_shuffle")
    found = evaluate(trial.group.network, trial.state.params[0], trial.task(), 0)
    columns = [*feature_columns(found), *weight_columns(trial.state.params[0], trial.state.init[0], trial.group.layout)]
    columns += update_columns(Accumulators.zeros(3), trial.state, trial.state.params, trial.group.layout)
    defined = re.compile("|".join(re.escape(name).replace(r"\{layer\}", "(conv|fc)[0-9]+") for name in DEFINITIONS))
    assert [name for name in columns if not defined.fullmatch(name)] == []


def test_evaluation_leaves_parameters_and_gradients_alone(make_trial) -> None:
    trial = make_trial()
    row = trial.state.params[0].clone().requires_grad_()
    found = evaluate(trial.group.network, row, trial.task(), 0)
    assert not any(h.requires_grad for h in found.features.values())
    assert_same_bits("row", row.detach(), trial.state.params[0])
