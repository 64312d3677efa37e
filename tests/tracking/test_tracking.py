"""What TensorBoard and Weights & Biases are told of a run: everything once, and to the run nothing."""

import json
import sys
import time
from collections import defaultdict
from types import SimpleNamespace

import pytest
from small_runs import small
from watched_runs import assert_all_metrics_are_there, look, points

import fastplast as fp
from fastplast.cli.main import run
from fastplast.tracking import Views, check
from fastplast.tracking.watch import MOST_MEMBERS
from fastplast.training.loop import EpochDone, TaskStarted
from fastplast.training.start import proceed, start

pytest.importorskip("tensorboard")
UPDATES = 2 * 6  # of a task


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Two settings, stopped in the middle of a task, killed just after a measurement, and finished; always watched."""
    root = tmp_path_factory.mktemp("live")
    views = Views(str(root / "board"))
    experiment = small(root / "run", method="l2", strength=(0.1, 0.01))
    look(start(experiment, stop=lambda: True), views)
    time.sleep(1.1)  # event files are ordered by the second
    look(proceed(root / "run"), views, lambda event: isinstance(event, TaskStarted) and event.task == 2)
    time.sleep(1.1)
    look(proceed(root / "run"), views)
    return root, fp.load(root / "run")


@pytest.mark.parametrize(
    ("place", "rows"),
    [
        ("strength 0.1", "strength == 0.1"),
        ("strength 0.01", "strength == 0.01"),
        ("strength 0.01/seed 1", "strength == 0.01 and seed == 1"),
    ],
)
def test_means_of_settings_and_values_of_members_are_the_metrics(watched, place, rows):
    root, result = watched
    assert_all_metrics_are_there(root / "board" / "run" / place, result.metrics(), rows)


def test_every_epoch_is_told_once_through_a_stop_and_a_kill(watched):
    root, _ = watched
    found = points(root / "board" / "run" / "online")
    assert set(found) == {"online/loss", "online/error", "online/diverged"}
    for values in found.values():
        assert [step for step, _ in values] == list(range(6, 3 * UPDATES + 1, 6))


def test_the_configuration_and_the_hyperparameters_are_told(watched):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    root, result = watched
    reader = EventAccumulator(str(root / "board" / "run" / "about"))
    reader.Reload()
    for text in reader.Tensors("config/text_summary"):
        assert json.loads(text.tensor_proto.string_val[0].decode().strip("`json\n")) == result.config
    reader = EventAccumulator(str(root / "board" / "run" / "strength 0.1"))
    reader.Reload()
    assert "_hparams_/session_start_info" in reader.PluginTagToContent("hparams")


def test_a_watched_run_is_the_same_bits(watched, tmp_path):
    _, result = watched
    plain = fp.train(small(tmp_path / "plain", method="l2", strength=(0.1, 0.01)))
    assert plain.config == result.config
    for part in sorted((plain.path / "metrics").glob("*.parquet")):
        assert part.read_bytes() == (result.path / "metrics" / part.name).read_bytes()


def test_a_finished_run_is_told_whole_afterwards(watched, tmp_path):
    _, result = watched
    assert run(["resume", str(result.path), "--quiet", "--tensorboard", str(tmp_path)]) == 0
    assert_all_metrics_are_there(tmp_path / "run" / "strength 0.1", result.metrics(), "strength == 0.1")


def test_members_beyond_a_bound_are_told_by_their_mean_only(tmp_path):
    experiment = small(tmp_path / "run", seeds=MOST_MEMBERS + 1, tasks=1, epochs=1, examples=16, srank="off")
    look(start(experiment), Views(str(tmp_path / "board")))
    names = {path.name for path in (tmp_path / "board" / "run" / "mean").iterdir() if path.is_dir()}
    assert names == {f"seed {i}" for i in range(MOST_MEMBERS)}


def test_shards_of_a_sweep_are_told_under_its_name(tmp_path):
    words = [
        "--tasks",
        "1",
        "--epochs",
        "1",
        "--examples",
        "32",
        "--widths",
        "8",
        "6",
        "--seeds",
        "1",
        "--srank",
        "off",
    ]
    words += ["--activation", "relu", "tanh", "--quiet", "--threads", "1", "--out", str(tmp_path / "mine")]
    assert run(["sweep", *words, "--tensorboard", str(tmp_path / "board")]) == 0
    shards = {path.name for path in (tmp_path / "mine" / "shards").iterdir()}
    assert {path.name for path in (tmp_path / "board" / "mine").iterdir()} == shards


def test_a_view_that_fails_is_dropped_and_training_goes_on(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fastplast.tracking.tensorboard.TensorBoard.write_epoch", full)
    begun = start(small(tmp_path / "run", tasks=1, srank="off"))
    with pytest.warns(UserWarning, match="live view TensorBoard failed and is dropped .*No space left"):
        look(begun, Views(str(tmp_path / "board")))
    assert fp.load(tmp_path / "run").is_finished


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_told_before_anything_is_made(name, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    out = str(tmp_path / "run")
    words = ["train", "--seeds", "1", "--out", out, f"--{name}", str(tmp_path / "board")]
    assert run(words) == 1
    assert f"--{name} needs the package {name}" in (error := capsys.readouterr().err)
    assert f"pip install {name}" in error
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_no_directory_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(fp.ConfigError, match="--tensorboard must be a directory"):
        check(Views(str(tmp_path / "file")))


class StandIn:
    """As much of wandb as is used: runs by id, each with what was logged and the last value of everything."""

    def __init__(self) -> None:
        self.runs: dict[str | None, SimpleNamespace] = {}
        self.asked: list[dict] = []

    def init(self, **how: object) -> SimpleNamespace:
        self.asked.append(how)
        found = self.runs.get(how["id"]) if how["id"] else None  # type: ignore[call-overload]
        if found is None:
            logged: list[dict] = []
            summary: dict = {}
            axes: dict = {}
            found = SimpleNamespace(logged=logged, summary=summary, axes=axes, finish=lambda: None)
            found.log = lambda values: (logged.append(values), summary.update(values))
            found.define_metric = lambda name, step_metric=None: axes.update({name: step_metric})
            self.runs[how["id"] or f"offline {len(self.runs)}"] = found  # type: ignore[index]
        return found


@pytest.fixture
def wandb(monkeypatch):
    module = StandIn()
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return module


def logged(run) -> dict[str, list[float]]:
    found = defaultdict(list)
    for values in run.logged:
        for name, value in values.items():
            found[name].append(value)
    return found


def test_wandb_has_every_number_once_through_a_kill(tmp_path, wandb):
    look(
        start(small(tmp_path / "run")),
        Views(wandb="mine"),
        lambda event: isinstance(event, EpochDone) and event.task == 1,
    )
    look(proceed(tmp_path / "run"), Views(wandb="mine"))
    (found,) = wandb.runs.values()
    values, metrics = logged(found), fp.load(tmp_path / "run").metrics()
    ends = metrics[metrics.when == "end"]
    assert values["end/error"] == pytest.approx(list(ends.groupby("task").error.mean()))
    assert values["end/error/seed 1"] == list(ends[ends.seed == 1].error)
    assert values["parts"] == list(range(1, 7))
    assert values["updates"] == list(range(6, 3 * UPDATES + 1, 6))
    assert found.axes["end/*"] == found.axes["start/*"] == "task"
    assert found.axes["online/*"] == "updates"
    assert [how["resume"] for how in wandb.asked] == ["allow", "allow"]
    assert wandb.asked[0]["id"] == wandb.asked[1]["id"]
    assert wandb.asked[0]["config"]["seeds"] == 2


def test_every_process_of_an_offline_run_is_whole_in_itself(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    look(
        start(small(tmp_path / "run", srank="off")),
        Views(wandb="mine"),
        lambda event: isinstance(event, EpochDone) and event.task == 1,
    )
    look(proceed(tmp_path / "run"), Views(wandb="mine"))
    _, second = wandb.runs.values()
    assert logged(second)["parts"] == list(range(1, 7))


def test_the_flag_alone_names_the_project(tmp_path, wandb):
    out = str(tmp_path / "run")
    words = [
        "--tasks",
        "1",
        "--epochs",
        "1",
        "--examples",
        "32",
        "--widths",
        "8",
        "6",
        "--seeds",
        "1",
        "--srank",
        "off",
    ]
    assert run(["train", *words, "--out", out, "--quiet", "--wandb"]) == 0
    assert wandb.asked[0]["project"] == "fastplast"


def test_a_view_that_cannot_start_is_told_before_training(tmp_path, wandb, capsys):
    wandb.init = lambda **_: (_ for _ in ()).throw(KeyError("not logged in"))
    out = str(tmp_path / "run")
    assert run(["train", "--seeds", "1", "--tasks", "1", "--threads", "1", "--out", out, "--quiet", "--wandb"]) == 1
    assert "live view Wandb could not start: KeyError: 'not logged in'" in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics").exists()


@pytest.mark.skipif("not __import__('importlib.util').util.find_spec('wandb')", reason="wandb is not installed")
def test_the_real_wandb_takes_a_run_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    look(start(small(tmp_path / "run", tasks=1, srank="off")), Views(wandb="mine"))
    assert list((tmp_path / "wandb").glob("offline-run-*"))
