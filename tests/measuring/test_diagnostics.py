"""Diagnostics on request, each beside what it is in closed form."""

import math

import numpy as np
import pytest
import torch
from assertions import assert_close
from small_runs import small, table
from torch import Tensor
from torch.nn import functional

import fastplast as fp
from fastplast.config import METRIC_NAMES
from fastplast.engines import pull_of
from fastplast.measuring import METRICS
from fastplast.measuring.diagnostics import effective_rank
from fastplast.measuring.group import measure_group
from fastplast.measuring.metric import Snapshot
from fastplast.measuring.metrics import ALWAYS
from fastplast.measuring.probes import Evaluation

FP64 = {"dtype": torch.float64}


def seen(activations: dict[str, Tensor] | None = None, **more) -> Snapshot:
    """A snapshot of which only what a metric reads is there."""
    given = activations or {}
    space = {name: tuple(range(2, h.ndim)) for name, h in given.items()}
    features = {name: h.double().mean(space[name]) if space[name] else h.double() for name, h in given.items()}
    magnitudes = {name: h.double().abs().mean((0, *space[name])) for name, h in given.items()}
    found = Evaluation(0.0, 0.0, torch.empty(0), given, features, magnitudes, torch.empty(0))
    rest = dict.fromkeys(("network", "params", "init", "task", "penalty", "step"))
    fields = {"member": 0, "seed": 0, "evaluation": found, "batch_size": 1, "running": {}}
    return Snapshot(**rest | fields | more)  # type: ignore[arg-type]


def measured(trial, names: tuple[str, ...], member: int = 0, task: int = 1) -> dict[str, float]:
    pull = pull_of(trial.group, trial.state)
    columns = measure_group(trial.group, trial.state, trial.task(task), pull, with_probes=True, with_hessian=False,
                            metrics=names).columns  # fmt: skip
    return {name: values[member] for name, values in columns.items()}


def test_every_name_is_measured_on_request():
    assert tuple(METRICS) == (*ALWAYS, *METRIC_NAMES)


@pytest.mark.parametrize("count", [1, 2, 7])
def test_effective_rank_of_equal_singular_values_is_their_number(count):
    matrix = torch.zeros(9, 8, dtype=torch.float64)
    matrix[:count, :count] = 3.0 * torch.linalg.qr(torch.rand(count, count, dtype=torch.float64))[0]
    assert math.isclose(effective_rank(matrix), count, rel_tol=1e-9)


def test_effective_rank_is_between_those_of_one_value_and_of_equal_ones():
    shares = np.array([0.5, 0.3, 0.2])
    expected = math.exp(-(shares * np.log(shares)).sum())
    assert math.isclose(effective_rank(torch.diag(torch.tensor([5.0, 3.0, 2.0]))), expected, rel_tol=1e-9)
    assert effective_rank(torch.zeros(3, 2)) == 0
    assert math.isnan(effective_rank(torch.full((2, 2), torch.inf)))


def test_layers_have_dormant_and_dead_units_of_their_own():
    h = torch.tensor([[0.0, 0.1, 0.9, 1.0]]).repeat(5, 1)  # ReDo scores 0, 0.2, 1.8, 2
    columns = METRICS["layer_units"].measure(seen({"fc1": h, "fc2": torch.zeros(5, 3), "fc3": torch.ones(5, 2)}))
    assert columns == {
        "dormant_fraction_fc1": 0.25, "dead_fraction_fc1": 0.25, "dormant_fraction_fc2": 1.0, "dead_fraction_fc2": 1.0,
        "dormant_fraction_fc3": 0.0, "dead_fraction_fc3": 0.0,
    }  # fmt: skip


def test_units_of_one_layer_are_those_of_the_whole_network(make_trial):
    trial = make_trial(widths=(7,))
    trial.train(1)
    columns = measured(trial, ("layer_units",))
    assert columns["dormant_fraction_fc1"] == columns["dormant_fraction"]
    assert columns["dead_fraction_fc1"] == columns["dead_fraction"]


def test_saturation_counts_what_is_beyond_nine_tenths():
    h = torch.tensor([[0.95, -0.95], [0.9, 0.0], [-1.0, 0.5], [0.1, 0.2]])
    assert METRICS["saturation"].measure(seen({"fc1": h})) == {"saturation_fc1": 3 / 8}


def test_sign_entropy_is_that_of_a_coin_for_each_unit():
    h = torch.tensor([[1.0, 1.0, -1.0], [-1.0, 1.0, -2.0], [1.0, 1.0, 3.0], [-1.0, 2.0, -1.0]])
    quarter = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    found = METRICS["sign_entropy"].measure(seen({"fc1": h, "conv1": h[:, :2, None, None].expand(-1, -1, 2, 3)}))
    assert math.isclose(found["sign_entropy_fc1"], (math.log(2) + 0 + quarter) / 3, rel_tol=1e-12)
    assert math.isclose(found["sign_entropy_conv1"], math.log(2) / 2, rel_tol=1e-12)


def test_the_spectral_norm_of_rows_of_one_direction_is_the_length_of_their_sizes(make_trial):
    trial = make_trial(widths=(3,))
    slot = trial.group.layout["fc1.weight"]
    direction = torch.nn.functional.normalize(torch.rand(slot.shape[1]), dim=0)
    trial.state.params[0, slot.slice] = torch.outer(torch.tensor([3.0, 4.0, 12.0]), direction).flatten()
    assert math.isclose(measured(trial, ("spectral_norm",))["spectral_norm_fc1"], 13.0, rel_tol=1e-6)


def test_a_unit_without_outgoing_weights_is_dormant_by_its_gradient(make_trial):
    trial = make_trial(widths=(8,), activation="tanh")
    trial.train(1)
    name, layout = "gradient_dormant_fraction_fc1", trial.group.layout
    assert measured(trial, ("gradient_dormancy",))[name] == 0
    out = layout.views(trial.state.params)["fc2.weight"]
    out[0, :, 2:4] = 0
    columns = measured(trial, ("gradient_dormancy",))
    assert columns[name] == 2 / 8
    assert "gradient_dormant_fraction_fc2" not in columns


def jacobian_of(trial, member: int, count: int) -> tuple[Tensor, Tensor]:
    """Derivatives `[n, C, P]` of outputs, one by one, and the outputs; float64."""
    network, task = trial.group.network, trial.task(1)
    x = task.inputs(torch.arange(task.num_examples).expand(task.num_members, -1))[member, :count].double()
    row = trial.state.params[member].double()
    jacobian = torch.func.jacrev(lambda row: network.logits(row, x))(row)
    return jacobian, network.logits(row, x)


def stable_rank(values: Tensor) -> int:
    values = values.abs().sort(descending=True).values
    return 1 + int((values.cumsum(0) / values.sum() > 0.99).int().argmax())


def test_ranks_of_tangent_kernel_and_gauss_newton_matrix_are_those_of_the_whole_matrices(make_trial):
    trial = make_trial(widths=(6, 5), activation="tanh", examples=40)
    trial.train(1)
    columns = measured(trial, ("ntk_rank", "gauss_newton_rank"), member=1)
    jacobian, logits = jacobian_of(trial, 1, 32)
    flat = jacobian.flatten(0, 1)
    assert columns["ntk_rank"] == stable_rank(torch.linalg.eigvalsh(flat.T @ flat))
    share = logits.softmax(1)
    inner = torch.diag_embed(share) - share[:, :, None] * share[:, None, :]
    matrix = torch.einsum("nap,nab,nbq->pq", jacobian, inner, jacobian) / 32
    assert columns["gauss_newton_rank"] == stable_rank(torch.linalg.eigvalsh(matrix))
    assert columns["gauss_newton_rank"] < columns["ntk_rank"] < 32 * 5


def test_the_rank_of_a_linear_map_of_few_inputs_is_the_number_of_inputs_and_outputs(make_trial):
    """With identity and no hidden layer of weight, J has rank C (I + 1): each output has its own weights and bias."""
    trial = make_trial(widths=(1,), activation="identity", examples=40)
    layout = trial.group.layout
    views = layout.views(trial.state.params)
    views["fc2.weight"].zero_()
    columns = measured(trial, ("ntk_rank",))
    # Outputs do not depend on the first layer; those of the second do, through one hidden number and the bias.
    assert columns["ntk_rank"] <= 2 * 5


def test_churn_is_what_the_next_update_changes_on_other_examples(make_trial):
    trial = make_trial(widths=(6, 5), optimizer="sgd", learning_rate=0.5, batch_size=8)
    trial.train(1)
    task, network = trial.task(1), trial.group.network
    before = trial.state.params.clone()
    x = task.inputs(torch.arange(40).expand(task.num_members, -1))[0].double()
    row, y = before[0].double(), task.labels[0]
    slope = torch.func.grad(lambda row: functional.cross_entropy(network.logits(row, x[:8]), y[:8]))(row)
    old, new = (network.logits(r, x[8:]).log_softmax(1) for r in (row, row - 0.5 * slope))
    expected = (old.exp() * (old - new)).sum(1).mean()
    found = measured(trial, ("churn",))["churn"]
    assert found > 0
    assert_close("churn", torch.tensor(found), expected, dtype=torch.float32, length=64, factor=64.0)
    assert torch.equal(trial.state.params, before)


def test_churn_of_a_rate_of_zero_is_zero(make_trial):
    trial = make_trial(optimizer="sgd", learning_rate=1e-30)
    assert measured(trial, ("churn",))["churn"] == 0


def test_they_change_no_other_column_and_have_the_same_bits_alone(tmp_path):
    fields = {"srank": "off", "epochs": 1, "tasks": 2}
    fp.train(small(tmp_path / "plain", **fields, seeds=(0, 1)))
    fp.train(small(tmp_path / "all", **fields, seeds=(0, 1), metrics=METRIC_NAMES))
    fp.train(small(tmp_path / "alone", **fields, seeds=(1,), metrics=METRIC_NAMES, threads=2))
    plain, found, alone = (table(tmp_path / name) for name in ("plain", "all", "alone"))
    assert found[list(plain)].equals(plain)
    assert len(found.columns) > len(plain.columns) + 20
    among = found[found.seed == 1].reset_index(drop=True)
    assert among.drop(columns="member").equals(alone.drop(columns="member"))


def test_they_are_measured_of_convolutions_modules_and_numbers_too(tmp_path):
    cifar = small(tmp_path / "cnn", benchmark="cifar_shuffle", widths=(8, 6), channels=(3, 4), srank="off", tasks=1,
                  epochs=1, metrics=METRIC_NAMES)  # fmt: skip
    bits = small(tmp_path / "bits", benchmark="bit_flip", widths=None, examples=64, batch_size=8, srank="off", tasks=1,
                 metrics=METRIC_NAMES)  # fmt: skip
    for e in (cifar, bits):
        last = fp.train(e).metrics().iloc[-1]
        for name in ("ntk_rank", "gauss_newton_rank", "churn", "feature_effective_rank_fc1", "spectral_norm_fc1"):
            assert math.isfinite(last[name]), name


def test_metrics_of_non_finite_weights_are_not_numbers(make_trial):
    trial = make_trial(widths=(6, 5))
    trial.state.params[0, 0] = torch.nan
    columns = measured(trial, METRIC_NAMES)
    for name in ("ntk_rank", "gauss_newton_rank", "churn", "weight_effective_rank_fc1", "spectral_norm_fc1",
                 "dormant_fraction_fc1", "gradient_dormant_fraction_fc1"):  # fmt: skip
        assert math.isnan(columns[name]), name
