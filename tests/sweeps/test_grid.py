"""A grid becomes members; a bad one is refused before anything runs, with its line."""

import dataclasses
import re
from pathlib import Path

import pytest

from fastplast.config import MACHINE_FIELDS, MEMBER_FIELDS, MEMBER_HYPERPARAMETERS, ConfigError, Experiment, Member
from fastplast.sweeps.grid import MOST_MEMBERS, as_group, expand, grid_of, group_digest, key_of, read_grid

FOUR = """\
benchmark = "mnist_shuffle"
activation = ["relu", "tanh"]
seeds = 2

[[cross]]
method = "none"

[[cross]]
method = ["l2", "wasserstein"]
strength = [0.1, 0.0]
learning-rate = 1e-2
"""


def refused(tmp_path, text: str, message: str) -> None:
    path = tmp_path / "g.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message.replace("FILE", str(path)))):
        expand(read_grid(path))


def members(grid) -> list[Member]:
    return [cell.member for cell in expand(grid)]


def test_values_are_crossed_with_seeds_fastest():
    found = members(grid_of({"learning_rate": [0.1, 0.2], "seeds": [7, 3]}))
    assert [(m.learning_rate, m.seed) for m in found] == [(0.1, 7), (0.1, 3), (0.2, 7), (0.2, 3)]


def test_a_method_without_a_strength_is_not_crossed_with_strengths():
    found = members(grid_of({"method": ["none", "l2"], "strength": [0.1, 0.01, 0], "seeds": 1}))
    assert [(m.method, m.strength) for m in found] == [("none", 0.0), ("l2", 0.1), ("l2", 0.01), ("l2", 0.0)]


def test_the_papers_grid_has_its_members():
    grid = {"activation": ["relu", "leaky_relu", "tanh", "identity"], "learning_rate": [1e-2, 1e-3, 1e-4], "seeds": 10}
    grid |= {"method": ["none", "l2", "regenerative", "wasserstein"], "strength": [1, 0.1, 0.01, 0.001, 0.0001]}
    cells = expand(grid_of(grid))
    assert len(cells) == 4 * 3 * 10 * (1 + 3 * 5)
    assert len({cell.group for cell in cells}) == 4


@pytest.mark.parametrize("name", ["beta1", "beta2", "epsilon", "weight_decay", "learning_rate"])
def test_hyperparameters_of_the_optimizer_share_a_group(name):
    cells = expand(grid_of({name: [0.5, 0.25], "seeds": 1}))
    assert len({cell.group for cell in cells}) == 1
    assert [getattr(cell.member, name) for cell in cells] == [0.5, 0.25]


@pytest.mark.parametrize(
    ("name", "values"),
    [("activation", ["relu", "tanh"]), ("epochs", [1, 2]), ("widths", [[8, 4], [4]]), ("benchmark",
     ["mnist_shuffle", "mnist_permute"]), ("change_first_task", [True, False]), ("optimizer", ["adam", "sgd"])],
)  # fmt: skip
def test_whatever_else_differs_makes_a_group(name, values):
    assert len({cell.group for cell in expand(grid_of({name: values, "seeds": 2}))}) == 2


def test_one_list_of_widths_is_one_value():
    assert len(expand(grid_of({"widths": [8, 4], "seeds": 1}))) == 1


def test_a_value_at_its_default_is_the_same_member():
    plain, spelt = (expand(grid_of(g | {"seeds": 1})) for g in ({}, {"beta1": 0.9, "method": "none", "examples": 1280}))
    assert [key_of(c) for c in plain] == [key_of(c) for c in spelt]
    other = expand(grid_of({"seeds": 1, "tasks": 3}))
    assert key_of(other[0]) != key_of(plain[0])


def test_a_machine_does_not_make_another_member():
    plain, moved = (expand(grid_of(g | {"seeds": 1})) for g in ({}, {"engine": "vmap", "threads": 3, "device": "cpu"}))
    assert key_of(plain[0]) == key_of(moved[0])


def test_a_union_of_crosses_holds_each_member_once():
    one = {"method": ["none", "l2"], "strength": [0.1], "seeds": 2}
    assert len(expand(grid_of([one, one | {"strength": [0.1, 0.2]}]))) == 2 + 2 * 2


def test_a_file_is_a_union_of_crosses(tmp_path):
    (tmp_path / "g.toml").write_text(FOUR)
    cells = expand(read_grid(tmp_path / "g.toml"))
    assert len(cells) == 2 * 2 * (1 + 4)
    assert {cell.member.learning_rate for cell in cells} == {1e-2, 1e-3}


def test_a_flag_wins_over_every_cross_of_the_file(tmp_path):
    (tmp_path / "g.toml").write_text(FOUR)
    cells = expand(read_grid(tmp_path / "g.toml", {"learning_rate": [0.5], "seeds": 1}))
    assert {(cell.member.learning_rate, cell.member.seed) for cell in cells} == {(0.5, 0)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('seeds = 2\nactivaton = "relu"\n', "FILE, line 2: grid has an unknown key: got 'activaton'. Did you mean"),
        ('\n[[cross]]\nmethod = "l2"\n[[cross]]\nmethods = "l2"\n', "FILE, line 5: grid has an unknown key: got 'met"),
        ('[[cross]]\nmethod = "none"\nstrength = [1, 0.1]\n', "FILE, line 3: --strength needs a --method that takes"),
        ('seeds = 1\n[[cross]]\nmethod = ["none", "l2"]\n', "FILE, line 3: --method l2 needs a --strength"),
        ("seeds = 2\nlearning-rate = []\n", "FILE, line 2: --learning-rate must have at least one value"),
        ("seeds = 2\nlearning-rate = [0.1, 0.1]\n", "FILE, line 2: --learning-rate must not repeat a value"),
        ('seeds = 2\n\nactivation = ["relu", "rely"]\n', "FILE, line 3: --activation must be a known name: got 'rely'"),
        ("momentum = 0.9\n", "FILE, line 1: --momentum belongs to --optimizer sgd"),
        ("epochs = [1, 0]\n", "FILE, line 1: --epochs must be a whole number of at least 1: got 0"),
        ('[[cross]]\nengine = "cpu"\n', "FILE, line 2: engine is of the whole sweep. Put it above the crosses."),
        ('engine = ["cpu", "vmap"]\n', "FILE, line 1: --engine must be one value for the whole grid"),
        ("seeds = [1, 1]\n", "FILE, line 1: --seeds must not repeat a seed"),
        ("seeds = 1\nseeds = 2\n", "FILE: --grid must be TOML: Cannot overwrite a value (at line 2"),
        ("seeds = \n", "FILE: --grid must be TOML: Invalid value (at line 1"),
        ("cross = 3\n", "FILE, line 1: cross must be a list of crosses: got 3."),
        ("[optimizer]\nbeta1 = 0.5\n", "FILE, line 1: --optimizer must be a value or a list of values: got a table."),
        ("beta1 = 0.5\nbeta-1 = 0.5\n", "FILE, line 2: grid has an unknown key: got 'beta_1'"),
        ("batch-size = 16\nbatch_size = 16\n", "FILE, line 2: batch_size must be given once"),
        ('seeds = 1 # [[cross]]\n\n "momentum" = 0.9\n', "FILE, line 3: --momentum belongs to --optimizer sgd"),
        (
            "activation = [\n  'relu', # = x\n  'rely',\n]\n",
            "FILE, line 1: --activation must be a known name: got 'rely'",
        ),
        ("seeds = 1\n[optimizer] # a table\nbeta1 = 0.5\n", "FILE, line 2: --optimizer must be a value or a list"),
        ("epochs = [[[1]]]\n", "FILE, line 1: --epochs must be a value or a list of values: got [[[1]]]."),
        ("seeds = [[1, [2]]]\n", "FILE, line 1: --seeds must be a value or a list of values: got [[1, [2]]]."),
        ("activation = [{}]\n", "FILE, line 1: --activation must be a value or a list of values: got [{}]."),
        (
            f"method = 0x{'f' * 5000}\ncbp-rate = 0.1\n",
            "FILE, line 2: --cbp-rate belongs to --method cbp: got it with an integer of 20,000 bits.",
        ),
        ('method = ["none", []]\n', "FILE, line 1: --method must be a known name: got ()."),
        (f"seeds = {'9' * 5000}\n", "FILE: --grid must be TOML: Exceeds the limit"),
        (
            f"seeds = 0x{'f' * 5000}\n",
            "FILE, line 1: --seeds must be a count of at least 1 or a list of seeds, below 2^63: got an "
            "integer of 20,000 bits.",
        ),
        ("seeds = 2000000\n", f"a grid must have at most {MOST_MEMBERS:,} members: got 2,000,000"),
    ],
)
def test_a_bad_file_is_refused_with_its_line(tmp_path, text, message):
    refused(tmp_path, text, message)


def test_files_that_are_no_grids_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"--grid must end in \.toml: got g\.json\.$"):
        read_grid("g.json")
    for name in ("g.yaml", "g.yml"):
        with pytest.raises(ConfigError, match=r"--grid must end in \.toml: got g\.ya?ml\. Write it in TOML: `seeds"):
            read_grid(name)
    with pytest.raises(ConfigError, match="--grid must be a readable file"):
        read_grid(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match="grid must hold at least one cross: got none"):
        grid_of([])


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("paper.toml", 4 * 3 * 30 + 3 * 3 * 5 * 3 * 10),
        ("appendix.toml", 150 + 30 + 30 + 70 + 60),
        ("class_pairs.toml", 2 * 10 * (3 + 3 * 2)),
    ],
)
def test_the_grids_of_the_paper_expand(name, members):
    assert len(expand(read_grid(Path(__file__).parents[2] / "docs" / "grids" / name))) == members


# Each setting that members share, other than by default, and what it needs beside it.
SHARED = {
    "benchmark": "mnist_permute", "dataset": "cifar10", "tasks": 3, "epochs": 2, "examples": 64, "batch_size": 8,
    "label_shuffle": "class", "change_first_task": False, "pixel_range": "symmetric",
    "subset": "fixed", "data_dir": "data", "network": "cnn", "widths": (4,), "activation": "tanh",
    "layer_norm": True, "dropout": 0.5, "head_reset": "zero", "init": "torch_default",
    "optimizer": "adamw", "srank": "both", "srank_method": "exact", "srank_every": 2,
    "epoch_curves": True, "earlier_tasks": 2, "keep_weights": "tasks", "probe_every": 2, "optimizer_reset": "moments",
    "metrics": ("churn", "saturation"),
    "new_classes": {"new_classes": 5, "benchmark": "class_incremental"},
    "drift_tasks": {"drift_tasks": 4, "benchmark": "label_drift", "dataset": "mnist"},
    "test_examples": {"test_examples": 4, "benchmark": "class_pairs", "dataset": "mnist"},
    "class_order": {"class_order": "redraw", "benchmark": "class_pairs", "dataset": "mnist"},
    "reduction": {"reduction": "sum", "method": "l2", "strength": 0.1},
    "leaky_slope": {"leaky_slope": 0.1, "activation": "leaky_relu"},
    "weight_decay_mode": {"weight_decay_mode": "coupled", "weight_decay": 0.1},
    "channels": {"channels": (2, 2), "network": "cnn"},
    "tf32": {"tf32": True, "engine": "cuda"}, "compile": {"compile": True, "engine": "vmap"},
}  # fmt: skip
OWN = (*MEMBER_FIELDS, *MEMBER_HYPERPARAMETERS, *MACHINE_FIELDS, "member_list")


def test_every_shared_setting_is_in_the_table():
    assert {*SHARED, *OWN} == {f.name for f in dataclasses.fields(Experiment)}


@pytest.mark.parametrize("name", SHARED)
def test_a_group_keeps_every_setting_that_its_members_share(name):
    values = SHARED[name] if isinstance(SHARED[name], dict) else {name: SHARED[name]}
    elsewhere = {"threads": 3, "overlap": True, "seeds": 2, "learning_rate": 0.5, "beta1": 0.5}
    (group,) = {cell.group for cell in expand(grid_of(values | elsewhere))}
    assert getattr(group, name) == values[name]
    assert as_group(Experiment(**values, **elsewhere)) == as_group(group) == group
    assert group_digest(group) == group_digest(Experiment(**values).resolved())
