"""What Python offers: data and networks of one's own, progress, errors that name fields, weights and spectra."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_runs import small
from torch import nn
from torch.utils.data import TensorDataset

import fastplast as fp
from fastplast.api_inputs import as_dataset
from fastplast.config import ConfigError, Experiment
from fastplast.config.errors import _names_flags
from fastplast.data import DataError
from fastplast.measuring.probes import member_inputs
from fastplast.networks import PlainNetwork
from fastplast.problems import make_task
from fastplast.sweeps import Sweep
from fastplast.training.setup import prepare

TINY = {"examples": 12, "tasks": 2, "epochs": 2, "batch_size": 6, "srank": "off", "widths": (5, 4, 4), "engine": "vmap"}
OWN = {"benchmark": "label_shuffle", "dataset": "./own", "examples": 12, "tasks": 2, "epochs": 2, "batch_size": 6,
       "srank": "off", "seeds": 2}  # fmt: skip
X = np.random.default_rng(0).normal(size=(30, 7))
Y = np.arange(30) % 3


class Items:
    """A map-style dataset of images, as torchvision's are."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return torch.full((1, 4, 4), i / 6), i % 2


class Columns(dict):
    """A dataset with columns, as Hugging Face's are."""

    column_names = ("img", "label")


def module() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))


def test_data_may_be_a_pair_a_table_or_a_dataset_of_torch_or_hugging_face():
    table = as_dataset((X, Y))
    assert (table.shape, table.images.dtype, table.num_classes) == ((1, 1, 7), np.float32, 3)
    np.testing.assert_array_equal(table.images, X.astype(np.float32))
    of_torch = as_dataset(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)))
    assert of_torch.identity == table.identity
    assert as_dataset((torch.from_numpy(X), torch.from_numpy(Y))).identity == table.identity
    images = as_dataset(Items())
    assert images.shape == (1, 4, 4)
    assert images.labels.tolist() == [0, 1, 0, 1, 0, 1]
    columns = Columns(img=[np.full((4, 4), i, np.uint8) for i in range(4)], label=[0, 1, 1, 0])
    assert as_dataset(columns).images[:, 0].tolist() == [0, 1, 2, 3]
    assert as_dataset(table) is table
    for wrong in ("mnist", 3, {"x": X}, [1, 2, 3]):
        with pytest.raises(TypeError, match="dataset must be images and labels: got"):
            as_dataset(wrong)
    with pytest.raises(DataError, match="must have a column image or img or pixel_values or x: got a"):
        as_dataset(SimpleNamespace(column_names=["a"]))


def test_a_sweep_takes_a_network_and_a_dataset_and_goes_on_with_them(tmp_path):
    grid = OWN | {"learning_rate": [0.1, 0.01], "method": ["none", "l2"], "strength": 0.1}
    found = fp.sweep(grid, tmp_path / "s", network=module, dataset=(X, Y), progress=False)
    table = found.metrics()
    assert set(table["network"]) == {"module:Sequential"}
    assert len(found.members) == 8
    alone = fp.train(Experiment(**OWN, learning_rate=0.01, out=str(tmp_path / "r")), module, (X, Y), progress=False)
    same = table[(table["learning_rate"] == 0.01) & (table["method"] == "none")].reset_index(drop=True)
    np.testing.assert_allclose(same["loss"], alone.metrics()["loss"], rtol=1e-5)
    fp.sweep(grid | {"seeds": 3}, tmp_path / "s", module, (X, Y), progress=False)
    assert sorted(len(shard.members) for shard in Sweep(tmp_path / "s").shards) == [4, 8]
    with pytest.raises(ConfigError, match=r"use fastplast.sweep\(..., network=...\)"):
        fp.sweep(grid | {"network": "module:Sequential"}, tmp_path / "s", dataset=(X, Y))
    with pytest.raises(ConfigError, match="network must be given once: got mlp in the grid and a function"):
        fp.sweep(grid | {"network": "mlp"}, tmp_path / "s", module, (X, Y))
    with pytest.raises(ConfigError, match="--activation belongs to a built-in --network"):
        fp.train(Experiment(**OWN, activation="tanh"), module, (X, Y))


def test_numbers_may_come_in_any_iterable():
    expected = Experiment(learning_rate=(0.1, 0.2), seeds=(0, 1))
    for rates in (
        {0.2, 0.1},
        (r for r in (0.1, 0.2)),
        np.array([0.1, 0.2]),
        {0.1: 1, 0.2: 2}.keys(),
        map(float, [0.1, 0.2]),
    ):
        assert Experiment(learning_rate=rates, seeds=range(2)) == expected
    assert Experiment(learning_rate=torch.tensor([0.1, 0.2], dtype=torch.float64), seeds=iter([0, 1])) == expected


def test_what_is_no_experiment_and_no_field_is_told_what_is_meant(tmp_path):
    with pytest.raises(TypeError, match=re.escape("Say fastplast.Experiment(benchmark='mnist_shuffle').")):
        fp.train("mnist_shuffle")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Experiment has no field 'lr'\. Did you mean 'learning_rate'\?"):
        Experiment(lr=0.1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"Experiment has no field 'epoch'\. Did you mean 'epochs'\?"):
        Experiment(epoch=0.1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=re.escape("Hyperparameters of methods are in options={'cbp_rate': ...}.")):
        Experiment(cbp_rate=0.1)  # type: ignore[call-arg]


def test_errors_name_fields_in_python_and_flags_on_the_command_line():
    error = ConfigError("--learning-rate must be positive: got --method none. Run `fastplast sweep --dry-run`.")
    assert str(error).startswith("--learning-rate must be positive")
    token = _names_flags.set(False)
    try:
        assert str(error) == "learning_rate must be positive: got method none. Run `fastplast sweep --dry-run`."
        with pytest.raises(ConfigError, match=r"^batch_size must not exceed examples: got 200 > 100\."):
            Experiment(batch_size=200, examples=100)
    finally:
        _names_flags.reset(token)


def test_progress_is_shown_unless_it_is_not_wanted(tmp_path, capsys):
    fp.train(small(tmp_path / "a", **TINY))
    lines = capsys.readouterr().out.splitlines()
    assert str(tmp_path / "a") in lines
    assert [line.split("  ")[0] for line in lines if line.startswith("task")] == ["task 1/2", "task 2/2"]
    fp.train(small(tmp_path / "b", **TINY), progress=False)
    fp.resume(tmp_path / "b", tasks=3, progress=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "changes",
    [{}, {"network": "cnn", "channels": (3, 4), "benchmark": "cifar_shuffle", "layer_norm": True},
     {"network": "convnet", "channels": (2, 3, 2), "benchmark": "cifar_permute", "activation": "crelu"},
     {"activation": "leaky_relu", "leaky_slope": 0.2, "dropout": 0.3, "benchmark": "mnist_permute"}],
)  # fmt: skip
def test_a_plain_module_computes_what_the_network_does(changes):
    setup = prepare(
        Experiment(**{"examples": 8, "batch_size": 4, "widths": (5, 4), "engine": "vmap", "seeds": 2} | changes)
    )
    net = setup.group.network
    plain = PlainNetwork(net, {n: v[1] for n, v in net.layout.views(setup.state.params).items()}).eval()
    x = member_inputs(make_task(setup.problem, 1), 1)
    torch.testing.assert_close(plain(x), net.logits(setup.state.params[1], x))
    assert {"fc1.weight", "fc1.bias"} <= set(plain.state_dict())


def test_weights_are_kept_on_request_and_give_the_errors_that_were_measured(tmp_path):
    run = fp.train(small(tmp_path / "r", **TINY, keep_weights="tasks", benchmark="mnist_permute"), progress=False)
    names = sorted(path.name for path in (run.path / "weights").iterdir())
    assert names == ["task-00000-end.safetensors", "task-00000-start.safetensors", "task-00001-end.safetensors"]
    setup = prepare(Experiment.from_dict(run.config))
    ends = run.metrics().query("when == 'end'").set_index(["task", "member"])
    for task in (0, 1):
        given = make_task(setup.problem, task)
        for member in (0, 1):
            wrong = run.module(member, task)(member_inputs(given, member)).argmax(1) != given.labels[member]
            assert float(wrong.double().mean()) == ends.loc[(task, member), "error"]
    for name, value in run.module(1).state_dict().items():
        assert torch.equal(value, run.module(1, 1).state_dict()[name])
    initial = run.module(0, 0, "start").state_dict()["fc1.weight"]
    assert torch.equal(initial, setup.group.layout.views(setup.state.init)["fc1.weight"][0])
    with pytest.raises(ConfigError, match=r"member must be in 0\.\.1: got 2"):
        run.module(2)
    with pytest.raises(OSError, match=r"Weights of this run: task-00000-end, .* with --keep-weights tasks, or all"):
        run.module(0, 1, "start")


def test_all_weights_are_those_of_every_epoch_and_come_back_after_a_kill(tmp_path):
    whole = fp.train(small(tmp_path / "a", **TINY, keep_weights="all"), progress=False)
    assert len(list((whole.path / "weights").iterdir())) == 2 * (1 + 2 + 1)
    last = whole.module(1, 1, epoch=1).state_dict()
    assert all(torch.equal(value, last[name]) for name, value in whole.module(1, 1).state_dict().items())
    none = fp.train(small(tmp_path / "b", **TINY), progress=False)
    assert whole.metrics().equals(none.metrics())
    assert not (none.path / "weights").exists()
    grid = {n: list(v) if isinstance(v, tuple) else v for n, v in TINY.items()} | {"activation": ["relu", "tanh"]}
    swept = fp.sweep(grid | {"seeds": 2}, tmp_path / "s", progress=False)
    members = swept.members.set_index(["activation", "seed"])["member"]
    own = swept.module(int(members["relu", 1])).state_dict()
    assert all(torch.equal(value, own[name]) for name, value in none.module(1).state_dict().items())
    with pytest.raises(ConfigError, match="member must be one of the sweep: got 9"):
        swept.module(9)


def test_a_module_of_ones_own_comes_back_with_its_weights(tmp_path):
    run = fp.train(Experiment(**OWN, keep_weights="tasks", out=str(tmp_path / "r")), module, (X, Y), progress=False)
    found = run.module(1, 1, network=module)
    assert isinstance(found, nn.Sequential)
    assert torch.equal(found[1].weight, run.module(1, network=module)[1].weight)
    with pytest.raises(ConfigError, match="module needs the network of the run: got none for module:Sequential"):
        run.module(1, 1)


def test_spectra_say_what_they_are(tmp_path):
    values = {"tasks": 2, "epochs": 1, "examples": 48, "widths": [12, 40, 30], "seeds": 2, "threads": 1}
    for method in ("exact", "truncated"):
        run = fp.train(Experiment(**values, srank_method=method, out=str(tmp_path / method)), progress=False)
        table = run.spectra()
        assert table[["task", "member"]].to_numpy().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
        assert set(table["when"]) == {"start"}
        assert table["computed"].tolist() == [len(v) for task in (0, 1) for v in run.spectra(task)]
        assert table["is_complete"].tolist() == [method == "exact"] * 4
        assert (table["method"] == method).all()
        assert (table["computed"] >= table["dimension"]).tolist() == [method == "exact"] * 4
    assert fp.train(small(tmp_path / "off", **TINY), progress=False).spectra().empty
    swept = fp.sweep(values, tmp_path / "s", progress=False)
    assert len(swept.spectra()) == 4


def test_a_run_shows_itself_in_a_notebook(tmp_path):
    run = fp.train(small(tmp_path / "a<b", **TINY), progress=False)
    text = run._repr_html_()
    assert "a&lt;b" in text
    assert "<th>error</th>" in text
