"""What is typed: flags, names and numbers as people write them, and errors of one line that say what to type."""

import re
import sys

import pytest
from torch import nn

from fastplast import methods, networks
from fastplast.cli import train
from fastplast.cli.exit_codes import EXIT_CODES
from fastplast.cli.flags import SHORT
from fastplast.cli.main import parse, run
from fastplast.config import BENCHMARKS, NEEDS, OTHER_NAMES, ConfigError, Experiment, check_effects
from fastplast.config.fields import CHOICES
from fastplast.sweeps import expand, grid_of
from fastplast.text import duration, hang

SIZES = {"seeds": 2, "tasks": 2, "epochs": 1, "examples": 12, "batch-size": 6, "widths": "5,4,4", "srank": "off"}
TINY = [word for name, value in (SIZES | {"engine": "vmap"}).items() for word in (f"--{name}", str(value))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--lr", "0.1"], "fastplast train has no flag --lr. Did you mean --learning-rate?"),
        (["train", "--learn", "0.1"], "has no flag --learn. Did you mean --learning-rate?"),
        (["train", "--learnig-rate=0.1"], "has no flag --learnig-rate. Did you mean --learning-rate?"),
        (["train", "--task", "5"], "has no flag --task. Did you mean --tasks?"),
        (["train", "--seed", "5"], "has no flag --seed. Did you mean --seeds?"),
        (["train", "--zzz"], "has no flag --zzz. `fastplast train --help-all` lists them."),
        (["status", "-x"], "fastplast status has no flag -x. `fastplast status --help` lists them."),
        (["trian"], "fastplast has no command 'trian'. Did you mean 'train'?"),
        (["--verison"], "fastplast has no flag --verison. Did you mean --version?"),
        (["train", "--method", "l2", "wasserstein"], "Several methods are a sweep: fastplast sweep --method l2 wass"),
        (["train", "--activation", "relu,tanh"], "Several activations are a sweep: fastplast sweep --activation relu"),
        (["train", "--epochs", "2", "4"], "Several epochs are a sweep: fastplast sweep --epochs 2 4 ..."),
        (["train", "--dropout", "50%"], "--dropout must be a number: got '50%'"),
        (["train", "--seeds", "9-0"], "--seeds must be a count, seeds, or a range such as 0-9: got '9-0'"),
        (["train", "--out"], "--out needs one argument: got none"),
        (["train", "--config", "a.yaml"], "--config must be JSON or TOML, and be named so: got a.yaml"),
        (["status"], "status: needs RUN."),
        (["list", "foo"], "WHAT must be a known name: got 'foo'. Known: benchmarks,"),
        (["data", "fetch", "minst"], "Did you mean 'mnist'?"),
        (["export", "r", "--out", "m.xlsx"], "--out must end in .csv or .parquet: got m.xlsx"),
        (["export", "r", "--csv", "--out", "m.parquet"], "--csv and --out m.parquet say two formats"),
        (["report", "r", "--out", "r.pdf"], "--out must end in .html or .htm: got r.pdf"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_line_with_what_to_type(words, message, capsys):
    assert run(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_numbers_and_flags_are_read_as_people_write_them():
    options = vars(parse(["train", "--seeds", "0-3", "--tasks", "100", "--learning-rate", "1e-2,1e-3"]))
    assert (options["seeds"], options["tasks"]) == ([[0, 1, 2, 3]], 100)
    assert run(["train", "--learning_rate", "x"]) == 2  # as --learning-rate


def test_names_are_found_whatever_their_case_or_what_else_they_are_called():
    found = Experiment(benchmark="Permuted_MNIST", activation="Leaky-ReLU", optimizer="SGD", init="xavier")
    assert (found.benchmark, found.activation, found.optimizer, found.init) == (
        "mnist_permute", "leaky_relu", "sgd", "glorot_uniform")  # fmt: skip
    assert Experiment(benchmark="label_shuffle", dataset="CIFAR-10").dataset == "cifar10"
    assert Experiment(dataset="./CIFAR10", benchmark="label_shuffle").dataset == "./CIFAR10"
    cells = expand(grid_of({"method": ["Continual Backprop", "L2"], "strength": 0.1, "seeds": 1}))
    assert {cell.member.method for cell in cells} == {"cbp", "l2"}
    with pytest.raises(ConfigError, match="must not repeat a value"):
        expand(grid_of({"activation": ["relu", "ReLU"]}))


def test_other_names_lead_to_known_ones_and_hide_none():
    for field, names in OTHER_NAMES.items():
        known = {*CHOICES.get(field, ()), *(["mnist", "fashion_mnist", "cifar10", "imagenet32"] * (field == "dataset"))}
        assert set(names.values()) <= known, field
        assert all(re.fullmatch("[a-z0-9]+", name) for name in names), field
        assert not {name.replace("_", "") for name in known} & set(names), field


WITHOUT = {
    "class_order": {"class_order": "redraw"},
    "label_shuffle": {"label_shuffle": "class", "benchmark": "mnist_permute"},
    "new_classes": {"new_classes": 5},
    "drift_tasks": {"drift_tasks": 5},
    "change_first_task": {"change_first_task": False, "benchmark": "class_pairs", "dataset": "mnist"},
    "data_dir": {"data_dir": "d", "benchmark": "label_shuffle", "dataset": "./own"},
    "reduction": {"reduction": "sum", "method": "cbp"},
    "leaky_slope": {"leaky_slope": 0.1},
    "widths": {"widths": (4,), "network": "module:own"},
    "activation": {"activation": "tanh", "network": "module:own"},
    "layer_norm": {"layer_norm": True, "network": "module:own"},
    "dropout": {"dropout": 0.5, "network": "module:own"},
    "init": {"init": "lecun_normal", "network": "module:own"},
    "beta1": {"beta1": 0.5, "optimizer": "sgd"},
    "beta2": {"beta2": 0.5, "optimizer": "sgd"},
    "epsilon": {"epsilon": 0.5, "optimizer": "sgd"},
    "weight_decay_mode": {"weight_decay_mode": "coupled"},
    "optimizer_reset": {"optimizer_reset": "step", "optimizer": "sgd", "momentum": 0.9},
    "srank_method": {"srank_method": "exact", "srank": "off"},
    "srank_every": {"srank_every": 2, "srank": "off"},
}


def test_an_option_without_effect_is_refused_wherever_it_is_given():
    assert set(WITHOUT) == set(NEEDS)
    for name, values in WITHOUT.items():
        with pytest.raises(ConfigError, match=f"{name.replace('_', '-')} belongs to .* does nothing otherwise"):
            check_effects(Experiment(**values))
        with pytest.raises(ConfigError, match=f"{name.replace('_', '-')} belongs to"):
            expand(grid_of(values | {"seeds": 1}))
        given = {n: v for n, v in values.items() if n != name}
        check_effects(Experiment(**given))
    check_effects(Experiment(reduction="sum", method="l2", strength=0.1).of_members(Experiment(
        method="l2", strength=0.1).members()))  # fmt: skip


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_what_a_cluster_leaves_without_effect_is_refused_before_anything_is_planned(name, tmp_path, capsys):
    (tmp_path / "shards").mkdir()
    words = [f"--{name}", "x", "--cluster", "ray"]
    for command in (["sweep", "--seeds", "2", "--out", str(tmp_path)], ["resume", str(tmp_path)]):
        assert run([*command, *words]) == 2
        assert (
            f"--{name} belongs to training in this process, and does nothing otherwise: got x with --cluster ray. "
            in (capsys.readouterr().err)
        )
    assert run(["sweep", "--cluster", "slurm"]) == 2
    assert "--cluster must be ray or ray://HOST:PORT: got 'slurm'." in capsys.readouterr().err


def test_bare_fastplast_and_help_show_the_help(capsys):
    assert run([]) == 2
    bare = capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        run(["help"])
    assert capsys.readouterr().out == bare
    assert all(f"  {code:<4} {text}" in bare for code, text in EXIT_CODES.items())
    with pytest.raises(SystemExit, match="0"):
        run(["help", "status"])
    assert "usage: fastplast status" in capsys.readouterr().out


def test_help_of_train_fits_a_screen_and_help_all_has_every_flag(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    for command in ("train", "sweep"):
        with pytest.raises(SystemExit, match="0"):
            run([command, "--help"])
        short = capsys.readouterr().out
        assert len(short.splitlines()) <= 45
        with pytest.raises(SystemExit, match="0"):
            run([command, "--help-all"])
        whole = capsys.readouterr().out
        assert "--weight-decay-mode" in whole
        assert "--weight-decay-mode" not in short
        assert all(name in whole for name in SHORT if name in short)
    with pytest.raises(SystemExit, match="0"):
        run(["resume", "--help"])
    text = capsys.readouterr().out
    assert "--tasks" in text
    assert "--beta1" not in text


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 130), ("", 130)])
def test_what_takes_more_than_an_hour_says_so_and_asks_on_a_terminal(answer, code, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "_seconds_of", lambda *_: 2 * 3600.0)
    monkeypatch.setattr("builtins.input", lambda text: answer)
    out = str(tmp_path / "r")
    terminal = type("Terminal", (), {"isatty": lambda self: True})()
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("fastplast.progress._is_live", lambda: False)
    assert run(["train", *TINY, "--out", out]) == code
    assert "This takes at most about 2 h 00 min" in (text := capsys.readouterr().out)
    assert ("Nothing was begun." in text) == (code == 130) == (not (tmp_path / "r").exists())


def test_a_time_is_measured_only_where_it_may_be_long(tmp_path, capsys):
    from fastplast.training.estimate import may_take_an_hour

    assert may_take_an_hour(Experiment(benchmark="cifar_shuffle"))
    assert not may_take_an_hour(Experiment(seeds=2, tasks=2, epochs=2))
    assert run(["train", *TINY, "--out", str(tmp_path / "r")]) == 0
    assert "This takes" not in capsys.readouterr().out
    assert duration(13 * 86400 + 4 * 3600) == "13 d 4 h"


def test_the_default_directory_of_a_sweep_is_that_of_its_problem():
    def place(**values):
        return train.sweep_directory(grid_of(values))

    assert place(seeds=3) == place(seeds=5, learning_rate=[0.1, 0.2], tasks=7) == "runs/sweep-mnist_shuffle"
    assert place(epochs=2) != place(seeds=3)
    assert place(epochs=2) == place(epochs=2, seeds=9)
    assert len({place(benchmark=name) for name in BENCHMARKS}) == len(BENCHMARKS)


def test_resuming_what_is_finished_says_so(tmp_path, capsys):
    out = str(tmp_path / "r")
    assert run(["train", *TINY, "--quiet", "--out", out]) == 0
    assert run(["resume", out]) == 0
    assert capsys.readouterr().out == f"{out} is finished: all 2 tasks. --tasks N goes on to more.\n"


def test_completion_has_names_and_says_what_it_needs(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert run(["completion", "bash"]) == 1
    assert "fastplast completion needs the package shtab" in capsys.readouterr().err
    monkeypatch.delitem(sys.modules, "shtab")
    pytest.importorskip("shtab")
    assert run(["completion", "bash"]) == 0
    script = capsys.readouterr().out
    assert "mnist_permute" in script
    assert "--learning-rate" in script


def test_the_first_line_of_a_run_hangs_on_a_terminal_and_stays_whole_in_a_pipe(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fastplast.progress._is_live", lambda: False)
    monkeypatch.chdir(tmp_path)
    assert run(["train", *TINY, "--out", "a"]) == 0
    whole = capsys.readouterr().out.partition("\na\n")[0]
    assert max(map(len, whole.splitlines())) > 60
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert run(["train", *TINY, "--out", "b"]) == 0
    broken = capsys.readouterr().out.partition("\nb\n")[0]
    assert max(map(len, broken.splitlines())) <= 60
    assert broken.replace("\n  ", " ") == whole


def test_lists_have_what_a_user_registers(capsys):
    methods.register("halves", methods.Method(summary="halves weights", reference="this test"))
    networks.register("own", lambda shape, classes: nn.Flatten(), "one of this test")
    for what, line in (("methods", r"halves +halves weights \(this test\)"), ("networks", "own +one of this test")):
        assert run(["list", what]) == 0
        assert re.search(f"(?m)^{line}$", capsys.readouterr().out)


def test_long_lines_hang_under_their_text_on_a_terminal_and_stay_whole_in_a_pipe(capsys, monkeypatch):
    for words in (["list", "methods"], ["list", "probes"], ["figure", "--list"]):
        assert run(words) == 0
        whole = capsys.readouterr().out
        assert max(map(len, whole.splitlines())) > 80
        with monkeypatch.context() as patched:
            patched.setenv("COLUMNS", "80")
            patched.setattr("sys.stdout.isatty", lambda: True)
            assert run(words) == 0
        broken = capsys.readouterr().out
        assert max(map(len, broken.splitlines())) <= 80
        assert broken.split() == whole.split()
    assert hang("one two three", 8, indent=2) == "one two\n  three"
    assert hang("name  one two\n      three four", 14) == "name  one two\n      three\n      four"
    assert hang("a word_of_twenty_letters", 10) == "a\nword_of_twenty_letters"
