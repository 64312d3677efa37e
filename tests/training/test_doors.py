"""What a user registers is stored with its name and line, asked for on resume, and named where it fails."""

import json
import math

import numpy as np
import pytest
import torch
from assertions import assert_close, assert_same_bits
from small_runs import drain, small, table
from torch import nn

import fastplast as fp
from fastplast import data, measuring, networks, problems
from fastplast.config import OWN, ConfigError
from fastplast.config.own import FIELDS
from fastplast.data import from_arrays
from fastplast.drawing.columns import axis_of, find_column
from fastplast.engines import optimizers
from fastplast.engines.cuda import missing_kernels
from fastplast.engines.optimizers import Optimizer
from fastplast.measuring import Metric
from fastplast.methods import Method
from fastplast.methods import register as register_method
from fastplast.problems import Change
from fastplast.registered import RegisteredError
from fastplast.runs.status import status
from fastplast.training.loop import EpochDone, TaskDone
from fastplast.training.start import start

pytestmark = pytest.mark.usefixtures("registries")
TINY = {"examples": 24, "tasks": 2, "epochs": 2, "batch_size": 8, "srank": "off", "engine": "vmap", "dataset": "mnist"}


def images(seed: int = 0):
    rng = np.random.default_rng(seed)
    return from_arrays(rng.integers(0, 256, (40, 28, 28), dtype=np.uint8), np.arange(40) % 10)


def scaled(problem, task):
    return {"labels": problem.images[problem.rows].float().mean(2) / 255 * (task + 1)}


def linear(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes))


def sign_step(step):
    return step.params - step.column("learning_rate") * step.grads.sign(), step.m, step.v


KINDS = {  # kind to: fields of an experiment that uses it, and how it is registered
    "metric": ({"metrics": "own"}, lambda: measuring.register("own", Metric(lambda seen: 1.0, "one"))),
    "problem": ({"benchmark": "own"}, lambda: problems.register("own", Change(lambda p, task: {}, "nothing changes"))),
    "optimizer": ({"optimizer": "own"}, lambda: optimizers.register("own", Optimizer(sign_step))),
    "dataset": ({"dataset": "own", "benchmark": "label_shuffle"}, lambda: data.register("own", images)),
    "network": ({"network": "own", "widths": None}, lambda: networks.register("own", linear)),
    "method": ({"method": "own"}, lambda: register_method("own", Method(after_update=lambda seen: seen.params * 0.9))),
}


def test_every_kind_has_a_case():
    assert set(KINDS) == set(OWN) == set(FIELDS)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_registered_travels_into_config_json_and_is_asked_for_on_resume(kind, tmp_path, registries):
    fields, register = KINDS[kind]
    register()
    line = register.__code__.co_firstlineno
    _, events = start(small(tmp_path / "run", **TINY | fields))
    drain(events, 1, TaskDone)
    events.close()
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["own"] == {kind: {"own": f"test_doors.py:{line}"}}
    fp.Experiment.from_dict(config)  # a valid --config
    registries()
    with pytest.raises(ConfigError, match=f"resume needs the {kind} own of the run: .*as test_doors.py:{line} did"):
        fp.resume(tmp_path / "run")
    assert status(tmp_path / "run").tasks == 2  # which needs nothing of it
    register()
    assert fp.resume(tmp_path / "run").is_finished
    fp.train(small(tmp_path / "whole", **TINY | fields))
    assert table(tmp_path / "run").equals(table(tmp_path / "whole"))


def test_a_run_of_the_package_alone_stores_nothing_of_ones_own(tmp_path):
    for _, register in KINDS.values():
        register()
    run = fp.train(small(tmp_path / "run", **TINY | {"tasks": 1}))
    assert "own" not in run.config
    assert "metrics" not in run.config
    assert run.units == {}
    assert not (run.path / "metrics" / "units.json").exists()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "method"])
def test_names_of_the_package_are_not_replaced(kind):
    register = {
        "metric": lambda: measuring.register("churn", Metric(lambda seen: 1.0, "one")),
        "problem": lambda: problems.register("class_pairs", Change(lambda p, task: {}, "")),
        "optimizer": lambda: optimizers.register("sgd", Optimizer(sign_step)),
        "dataset": lambda: data.register("mnist", images),
        "network": lambda: networks.register("cnn", linear),
    }[kind]
    with pytest.raises(ValueError, match=r"must be new: got '\w+', which is one of fastplast's"):
        register()
    assert not OWN[kind]


def test_a_metric_does_not_take_a_column_of_the_package():
    with pytest.raises(ValueError, match="columns must be new: got 'error'"):
        measuring.register("mine", Metric(lambda seen: {"error": 0.0}, {"error": "mine"}))


def test_a_metric_is_a_column_with_definition_and_unit_beside_those_there_are(tmp_path):
    def largest(seen):
        return {f"largest_{name}": w.abs().max() for name, w in seen.weights.items()}

    fp.train(small(tmp_path / "plain", **TINY))
    measuring.register("largest", Metric(largest, {"largest_{layer}": "largest weight"}, unit="volts", reads="weights"))
    run = fp.train(small(tmp_path / "run", **TINY, metrics="largest"))
    found, plain = table(tmp_path / "run"), table(tmp_path / "plain")
    own = [name for name in found if name.startswith("largest_")]
    assert own == [f"largest_fc{i}" for i in (1, 2, 3, 4)]
    assert found.drop(columns=own).equals(plain)
    assert run.definitions["largest_{layer}"] == "largest weight"
    assert run.units == {"largest_{layer}": "volts"}
    assert find_column("largest_fc2", {"largest_fc2": ["end"]}, run.units)[1].unit == "volts"
    assert axis_of("largest_fc2").unit == ""
    first = found.iloc[0]
    network = networks.build_network(fp.Experiment(widths=(12, 10, 8)), (1, 28, 28), 10)
    row = network.initial_parameters([0])[0]
    for name, w in network.layout.views(row).items():
        if name.endswith(".weight"):
            assert first[f"largest_{name[:-7]}"] == float(w.abs().max())


def test_units_go_into_exported_files_and_sweeps_which_are_read_without_the_metric(tmp_path, registries):
    measuring.register("one", Metric(lambda seen: 1.0, "one", unit="apples"))
    grid = {"metrics": ["one"], "seeds": 1, "threads": 1, "widths": [5, 4, 4], **TINY, "tasks": 1}
    sweep = fp.sweep(grid, tmp_path / "sweep")
    assert sweep.units == {"one": "apples"}
    fp.sweep(grid | {"seeds": 2}, tmp_path / "sweep")
    assert len(sweep.shards) == 2  # the first is not trained again
    registries()
    assert set(sweep.metrics().one) == {1.0}
    from fastplast.runs.archive import Archive, write_archive

    assert Archive(write_archive(sweep, tmp_path / "file.parquet")).units == {"one": "apples"}


@pytest.mark.parametrize(
    ("measure", "text"),
    [
        (lambda seen: 1 / 0, r"measure of the metric 'bad' at update 6 \(task 0\) failed: ZeroDivisionError"),
        (lambda seen: "many", "measure of the metric 'bad' at update 6 .* failed: ValueError: could not convert"),
        (lambda seen: {"other": 1.0}, "must give the columns that it defines: got 'other'"),
    ],
    ids=["raises", "text", "column"],
)
def test_a_metric_that_fails_is_named_and_its_run_goes_on_once_it_is_corrected(measure, text, tmp_path):
    def sometimes(seen):
        return measure(seen) if seen.task.index == 0 and float(seen.params.sub(seen.init).abs().sum()) else 0.0

    measuring.register("bad", Metric(sometimes, "bad"))
    with pytest.raises(RegisteredError, match=text):
        fp.train(small(tmp_path / "run", **TINY, metrics="bad"))
    measuring.register("bad", Metric(lambda seen: 0.0, "good"))
    assert fp.resume(tmp_path / "run").is_finished
    fp.train(small(tmp_path / "whole", **TINY, metrics="bad"))
    assert table(tmp_path / "run").equals(table(tmp_path / "whole"))


def test_an_optimizer_moves_every_member_by_its_own_rate_and_alone_as_in_a_batch(tmp_path):
    optimizers.register("own", Optimizer(sign_step))
    e = small(tmp_path / "run", **TINY | {"epochs": 1, "examples": 8}, optimizer="own", learning_rate=(0.25, 0.125))
    found = fp.train(e).metrics()
    end = found[(found.when == "end") & (found.task == 0)]
    for rate, moved in zip(end.learning_rate, end.displacement_l1):
        assert 0 < moved <= rate  # of weights whose gradient is not zero, by exactly the rate
    alone = fp.train(small(tmp_path / "alone", **TINY | {"epochs": 1, "examples": 8}, optimizer="own", seeds=(1,),
                           learning_rate=0.125)).metrics()  # fmt: skip
    among = found[(found.seed == 1) & (found.learning_rate == 0.125)].reset_index(drop=True)
    assert among.drop(columns="member").equals(alone.drop(columns="member"))


@pytest.mark.parametrize("mode", ["coupled", "decoupled"])
def test_weight_decay_is_applied_before_a_rule_as_kernels_apply_it(mode, tmp_path):
    """Plain gradient descent as a rule of one's own is that of the package, to rounding."""
    optimizers.register(
        "own", Optimizer(lambda s: (s.params - s.column("learning_rate") * s.grads, s.grads.clone(), s.v))
    )
    fields = TINY | {"weight_decay": 0.1, "weight_decay_mode": mode, "learning_rate": 0.1, "method": "l2"}
    runs = [
        fp.train(small(tmp_path / name, **fields, optimizer=name, strength=0.1)).metrics() for name in ("sgd", "own")
    ]
    for column in ("loss", "weight_norm_l2", "displacement_l2"):
        a, b = (torch.tensor(run[column].dropna().to_numpy()) for run in runs)
        assert_close(column, a, b, dtype=torch.float32, length=784)


def test_other_engines_refuse_an_optimizer_of_ones_own_by_name(tmp_path, make_trial):
    optimizers.register("own", Optimizer(sign_step))
    with pytest.raises(ConfigError, match=r"--engine cpu cannot serve .* no kernels for --optimizer own"):
        fp.train(small(tmp_path / "run", **TINY | {"engine": "cpu"}, optimizer="own"))
    assert missing_kernels(make_trial(optimizer="own").group) == "it has no kernels for --optimizer own"


def test_an_optimizer_that_fails_is_named_with_its_update(tmp_path):
    def rule(step):
        if int(step.number.max()) == 4:
            raise KeyError("lost")
        return sign_step(step)

    optimizers.register("own", Optimizer(rule))
    with pytest.raises(RegisteredError, match="rule of the optimizer 'own' at update 4 failed: KeyError"):
        fp.train(small(tmp_path / "run", **TINY, optimizer="own"))
    optimizers.register("own", Optimizer(lambda step: (step.params, step.m)))
    with pytest.raises(RegisteredError, match="must give parameters, m and v"):
        fp.resume(tmp_path / "run")
    optimizers.register("own", Optimizer(sign_step))
    assert fp.resume(tmp_path / "run").is_finished


def test_numbers_as_labels_are_learned_by_squared_error(tmp_path):
    problems.register("own", Change(scaled, "brightness"), loss="mse", outputs=1)
    e = small(tmp_path / "run", **TINY | {"srank": "both"}, benchmark="own", widths=(6, 5), epoch_curves=True)
    run = fp.train(e)
    found = run.metrics()
    assert "error" not in found
    assert "online_error" not in found
    assert run.definitions["loss"].startswith("mean squared error")
    assert found.hessian_srank.notna().all()
    network = networks.build_network(e, (1, 28, 28), 1)
    setup, events = start(small(tmp_path / "other", **TINY, benchmark="own", widths=(6, 5)))
    events.close()
    task = problems.make_task(setup.problem, 0)
    row, positions = network.initial_parameters([1])[0], torch.arange(24).expand(2, 24)
    outputs = network.logits(row, task.inputs(positions)[1])[:, 0]
    expected = ((outputs - task.labels[1]) ** 2).mean()
    start_of_run = found[(found.seed == 1) & (found.task == 0) & (found.when == "start")].loss.item()
    assert_close("loss", torch.tensor(start_of_run), expected, dtype=torch.float32, length=784)
    assert status(tmp_path / "run").error is None


def test_the_hessian_of_squared_error_of_a_linear_map_is_that_of_least_squares(tmp_path):
    """Of outputs w x + b it is 2/N times the Gram matrix of (x, 1), whatever the labels."""
    problems.register("own", Change(scaled, "brightness"), loss="mse", outputs=1)
    fields = TINY | {"benchmark": "own", "srank": "both", "network": "own", "widths": None, "seeds": 1}
    data.register("small", lambda: from_arrays(images().images.reshape(40, 28, 28)[:, :4, :3], np.arange(40) % 10))
    networks.register("own", linear)
    run = fp.train(small(tmp_path / "run", **fields | {"dataset": "small"}))
    setup, events = start(small(tmp_path / "other", **fields | {"dataset": "small"}))
    events.close()
    x = problems.make_task(setup.problem, 0).inputs(torch.arange(24)[None])[0].double()
    design = torch.cat([x, torch.ones(24, 1, dtype=torch.float64)], 1)
    expected = torch.linalg.eigvalsh(2 * design.T @ design / 24).sort(descending=True).values
    found = torch.from_numpy(run.spectra(0)[0]).double()
    found = found[found.abs().argsort(descending=True)]
    assert_close("eigenvalues", found, expected[: len(found)], dtype=torch.float32, length=24, scale=float(expected[0]))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda p, task: 1 / 0, "apply of the problem 'own' for task 0 failed: ZeroDivisionError"),
        (lambda p, task: {"labels": p.labels + 1}, r"must give labels that are int64 \[2, 24\] in 0..9: got int64"),
        (
            lambda p, task: {"rows": p.rows.float()},
            r"must give rows that are int64 \[2, 24\] .*: got float32 \[2, 24\]",
        ),
        (lambda p, task: {"pixels": p.rows}, r"must give pixels that are int64 \[2, 784\]"),
    ],
    ids=["raises", "labels", "rows", "pixels"],
)
def test_a_problem_whose_tasks_are_none_is_named(change, text, tmp_path):
    problems.register("own", Change(change, ""))
    with pytest.raises(RegisteredError, match=text):
        fp.train(small(tmp_path / "run", **TINY, benchmark="own"))


def test_labels_that_are_no_numbers_are_refused_for_squared_error(tmp_path):
    problems.register("own", Change(lambda p, task: {"labels": p.labels}, ""), loss="mse", outputs=1)
    with pytest.raises(RegisteredError, match=r"must give labels that are float32 \[2, 24\]: got int64"):
        fp.train(small(tmp_path / "run", **TINY, benchmark="own"))
    with pytest.raises(ConfigError, match="c_chain needs classes"):
        fp.Experiment(benchmark="own", dataset="mnist", method="c_chain", strength=0.1)
    with pytest.raises(ConfigError, match=r"--engine cpu cannot serve .* cross-entropy, not with mse"):
        fp.train(small(tmp_path / "cpu", **TINY | {"engine": "cpu"}, benchmark="own"))


def test_a_dataset_and_a_network_of_ones_own_that_fail_are_named(tmp_path):
    data.register("own", lambda: from_arrays(np.zeros((3, 2)), np.zeros(3)))
    with pytest.raises(RegisteredError, match="load of the dataset 'own' failed: DataError"):
        fp.train(small(tmp_path / "run", **TINY | {"dataset": "own"}))
    networks.register("own", lambda shape, classes: nn.Linear())  # type: ignore[call-arg]
    with pytest.raises(RegisteredError, match="factory of the network 'own' failed: TypeError"):
        fp.train(small(tmp_path / "run", **TINY | {"widths": None}, network="own"))
    assert not (tmp_path / "run").exists()


def test_other_data_of_the_same_name_are_refused_on_resume(tmp_path):
    data.register("own", images)
    _, events = start(small(tmp_path / "run", **TINY | {"dataset": "own"}))
    drain(events, 1, EpochDone)
    events.close()
    data.register("own", lambda: images(1))
    with pytest.raises(ConfigError, match="data must be those that"):
        fp.resume(tmp_path / "run")
    data.register("own", images)
    assert set(fp.resume(tmp_path / "run").metrics().data_source) == {"own"}


def test_labels_of_several_outputs_are_taken_by_position():
    labels = torch.arange(2 * 5 * 3).float().view(2, 5, 3)
    task = problems.Task(0, torch.zeros(1, 4), torch.zeros(2, 5).long(), labels, None, torch.ones(4), torch.zeros(4),
                         (1, 2, 2), 3, "mse")  # fmt: skip
    positions = torch.tensor([[4, 0], [1, 1]])
    assert_same_bits("labels", task.labels_at(positions), torch.stack([labels[m][positions[m]] for m in (0, 1)]))


@pytest.mark.parametrize("field", [("widths", (3,)), ("layer_norm", True), ("activation", "tanh"), ("dropout", 0.5)])
def test_fields_of_layers_are_refused_with_a_network_that_is_a_module(field):
    name, value = field
    with pytest.raises(ConfigError, match=f"--{name.replace('_', '-')} belongs to a network of layers"):
        fp.Experiment(network="resnet18", **{name: value})


def test_a_sweep_trains_whatever_is_ones_own_and_finds_it_again(tmp_path):
    for _, register in KINDS.values():
        register()
    grid = {name: value for fields, _ in KINDS.values() for name, value in fields.items() if name != "widths"}
    grid |= {
        "srank": "off",
        "threads": 1,
        "examples": 24,
        "epochs": 1,
        "tasks": 1,
        "benchmark": ["own", "label_shuffle"],
    }
    fp.sweep(grid | {"seeds": 1}, tmp_path / "sweep")
    sweep = fp.sweep(grid | {"seeds": 2}, tmp_path / "sweep")
    metrics = sweep.metrics()
    assert len(sweep.shards) == 4
    assert set(metrics.benchmark) == {"own", "label_shuffle"}
    for name in ("optimizer", "dataset", "network", "method"):
        assert set(metrics[name]) == {"own"}
    for shard in sweep.shards:
        assert {"metric", "optimizer", "dataset", "network", "method"} <= set(shard.config["own"])


def test_a_problem_that_fails_later_is_named_and_its_run_goes_on(tmp_path):
    def change(problem, task, broken=True):
        return {"labels": problem.labels.flip(1 if task == 0 or not broken else "first")}

    problems.register("own", Change(change, ""))
    fields = TINY | {"benchmark": "own", "checkpoint_minutes": 1e-9}
    with pytest.raises(RegisteredError, match="apply of the problem 'own' for task 1 failed: TypeError"):
        fp.train(small(tmp_path / "run", **fields))
    problems.register("own", Change(lambda problem, task: change(problem, task, False), ""))
    fp.train(small(tmp_path / "whole", **fields))
    assert fp.resume(tmp_path / "run").is_finished
    assert table(tmp_path / "run").equals(table(tmp_path / "whole"))
