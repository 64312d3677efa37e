"""Hyperparameters of methods in experiments, on the command line and in grids: each is declared once."""

import json
import re

import pytest

from fastplast.cli.flags import fields_from
from fastplast.cli.parser import build_parser
from fastplast.config import METHOD_NAMES, METHOD_OPTIONS, ConfigError, Experiment, Member, flag, option_fields
from fastplast.sweeps import grid_of
from fastplast.sweeps.grid import expand, group_digest, key_of


def parsed(*words: str) -> dict[str, object]:
    return fields_from(vars(build_parser().parse_args(["train", *words])))


def test_no_hyperparameter_is_called_as_another_or_as_a_field() -> None:
    names = [name for name, _, _ in option_fields()]
    assert len({*names, *Experiment.__dataclass_fields__}) == len(names) + len(Experiment.__dataclass_fields__)
    assert set(METHOD_OPTIONS) <= set(METHOD_NAMES)
    assert all(option.checked(name, option.default) == option.default for name, _, option in option_fields())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("8", "options must be a dictionary: got '8'."),
        ({"cbp_rat": 0.1}, "options must be of --method cbp: got 'cbp_rat'. Did you mean 'cbp_rate'"),
        ({"redo_every": 5}, "--redo-every belongs to --method redo: got --method cbp. Drop one of them."),
        ({"cbp_rate": 1.5}, "--cbp-rate must be in [0, 1]: got 1.5."),
        ({"cbp_rate": "0.1"}, "--cbp-rate must be in [0, 1]: got '0.1'."),
        ({"cbp_maturity": 2.5}, "--cbp-maturity must be a whole number of at least 0: got 2.5."),
        ({"cbp_utility": "weigth"}, "--cbp-utility must be a known name: got 'weigth'. Did you mean 'weight'"),
        ({"cbp_rate": (0.1, 0.1)}, "--cbp-rate must have values, none of them twice: got [0.1, 0.1]."),
        ({"cbp_rate": [{}]}, "--cbp-rate must be in [0, 1]: got {}."),
        ({"cbp_utility": [["weight"]]}, "--cbp-utility must be a known name: got ['weight']. Did you mean 'weight'"),
        ({"cbp_rate": ()}, "--cbp-rate must have values, none of them twice: got []."),
    ],
)
def test_hyperparameters_of_methods_obey_their_declarations(options: object, text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)):
        Experiment(method="cbp", options=options)


def test_options_are_stored_whole_and_make_members() -> None:
    experiment = Experiment(method="cbp", options={"cbp_rate": (1e-3, 0)}, seeds=2, learning_rate=0.1)
    assert Experiment.from_dict(json.loads(json.dumps(experiment.to_dict()))) == experiment
    assert experiment.to_dict()["options"]["cbp_maturity"] == [100]
    members = experiment.members()
    assert [(dict(m.options)["cbp_rate"], m.seed) for m in members] == [(1e-3, 0), (1e-3, 1), (0.0, 0), (0.0, 1)]
    assert Member(0, 0.1, "cbp", 0.0, options={"cbp_rate": 1e-3}) == members[0]
    again = Experiment(member_list=[member.to_dict() for member in members])
    assert again.members() == members
    assert "options" not in Experiment(method="l2", strength=0.1).to_dict()
    assert "optimizer_reset" not in Experiment().to_dict()


def test_every_hyperparameter_of_a_method_has_a_flag_that_sets_it() -> None:
    for name, method, option in option_fields():
        word = option.choices[-1] if option.choices else "1"
        values = parsed("--method", method, flag(name), word)
        assert values["options"] == {name: ((word if option.choices else 1),)}
        assert parsed(flag(name), word, word)["options"][name] == values["options"][name] * 2  # type: ignore[index]


def test_a_grid_crosses_methods_each_with_its_own_hyperparameters() -> None:
    grid = {"method": ["none", "cbp", "redo"], "cbp_rate": [1e-3, 1e-4], "redo_every": [5], "seeds": 2}
    cells = expand(grid_of(grid))
    found = [(c.member.method, dict(c.member.options).get("cbp_rate"), c.member.seed) for c in cells]
    assert found == [
        ("none", None, 0), ("none", None, 1), ("cbp", 1e-3, 0), ("cbp", 1e-3, 1), ("cbp", 1e-4, 0), ("cbp", 1e-4, 1),
        ("redo", None, 0), ("redo", None, 1),
    ]  # fmt: skip
    assert len({group_digest(cell.group) for cell in cells}) == 1  # one batch
    assert len({key_of(cell) for cell in cells}) == len(cells)
    (spelt,) = expand(grid_of({"method": "cbp", "cbp_rate": 1e-3, "cbp_maturity": 100, "seeds": (0,)}))
    assert key_of(spelt) == key_of(cells[2])  # a default that is said is the default


def test_a_grid_refuses_hyperparameters_of_no_method_in_it() -> None:
    text = "--cbp-rate belongs to --method cbp: got it with none, redo. Add the method, or drop it."
    with pytest.raises(ConfigError, match=re.escape(text)):
        expand(grid_of({"method": ["none", "redo"], "cbp_rate": 1e-3}))
    with pytest.raises(ConfigError, match=r"unknown key: got 'cbp_rat'\. Did you mean 'cbp_rate'"):
        grid_of({"method": "cbp", "cbp_rat": 1e-3})


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"method": "upgd"}, "--method upgd is an update rule of its own: got --optimizer adam, --momentum 0. Use"),
        ({"method": "nap"}, "--method nap needs --layer-norm: got none. Add --layer-norm."),
        ({"method": "spectral"}, "--method spectral needs a --strength: got none."),
        ({"method": "cbp", "strength": 0.1}, "--strength needs a --method: got --strength (0.1,) with --method cbp."),
    ],
)
def test_a_method_says_what_it_needs(fields: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)):
        Experiment(**fields)
