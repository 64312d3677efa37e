import json
import re
from dataclasses import fields

import pytest

from fastplast.cli.flags import fields_from
from fastplast.cli.main import run
from fastplast.cli.parser import build_parser
from fastplast.config import (
    BENCHMARKS,
    TAKES_STRENGTH,
    ConfigError,
    Experiment,
    Member,
    flag,
    load_config,
)
from fastplast.config.fields import _broken_rule
from fastplast.methods import METHODS, Method, register
from fastplast.text import closest

CHOICES = {f.name: f.metadata["choices"] for f in fields(Experiment) if f.metadata["choices"]}
WHOLE = ("tasks", "epochs", "examples", "batch_size", "srank_every", "probe_every", "threads")


def refused(text: str, **values: object) -> None:
    with pytest.raises(ConfigError, match=re.escape(text)):
        Experiment(**values)


def parsed(*words: str) -> dict[str, object]:
    return fields_from(vars(build_parser().parse_args(["train", *words])))


def test_a_config_error_is_a_value_error() -> None:
    assert issubclass(ConfigError, ValueError)


@pytest.mark.parametrize("name", CHOICES)
def test_unknown_name_is_refused_with_the_closest_match_and_the_list(name: str) -> None:
    known = max(CHOICES[name], key=len)
    misspelt = known + "q"
    refused(f"{flag(name)} must be a known name: got {misspelt!r}. Did you mean {known!r}? Known: ", **{name: misspelt})
    refused(f"Known: {', '.join(CHOICES[name])}.", **{name: misspelt})


@pytest.mark.parametrize("name", [name for name in CHOICES if name not in ("network", "subset")])
def test_a_name_cannot_be_none_where_the_benchmark_does_not_decide_it(name: str) -> None:
    refused(f"{flag(name)} must be a known name: got None", **{name: None})


def test_a_name_far_from_all_known_names_gets_the_list_alone() -> None:
    assert closest("zzz", ("relu", "tanh")) == "Known: relu, tanh."
    assert closest("rleu", ("relu", "tanh")) == "Did you mean 'relu'? Known: relu, tanh."


def test_a_module_of_the_users_is_a_network_name() -> None:
    assert Experiment(network="module:Net").network == "module:Net"


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [0, -1, 2.0, True, "3"])
def test_counts_must_be_whole_and_at_least_one(name: str, value: object) -> None:
    refused(f"{flag(name)} must be a whole number of at least 1: got {value!r}.", **{name: value})


@pytest.mark.parametrize(
    ("name", "rule", "values"),
    [
        ("seed_start", "must be a whole number of at least 0", [-1, 1.5, False, None]),
        ("change_first_task", "must be true or false", [1, "yes", None]),
        ("data_dir", "must be a path", ["", 3]),
        ("out", "must be a path", ["", 3]),
        ("learning_rate", "must be positive numbers", [(), 0.0, -1e-3, float("nan"), float("inf"), (1e-3, 0), "1e-3"]),
        ("strength", "must be numbers of at least 0", [(), -1.0, (0.1, -0.1), float("nan"), ("0.1",)]),
        ("widths", "must be whole numbers of at least 1", [(), 0, (8, 0), (8.0,), (True,), "8"]),
        ("channels", "must be whole numbers of at least 1", [(), 0, (8, -1), (8.5,)]),
        ("leaky_slope", "must be in [0, 1)", [-0.1, 1.0, float("nan"), None]),
        ("momentum", "must be in [0, 1)", [-0.1, 1, "0.9"]),
        ("beta1", "must be in [0, 1)", [1.0, -0.5, True]),
        ("beta2", "must be in [0, 1)", [1.0, 2.0]),
        ("weight_decay", "must be a number of at least 0", [-1e-4, float("inf"), None]),
        ("epsilon", "must be a positive number", [0.0, -1e-8, None]),
        ("checkpoint_minutes", "must be a positive number", [0, float("nan")]),
    ],
)
def test_each_rule_says_itself_and_what_came(name: str, rule: str, values: list[object]) -> None:
    for value in values:
        numbers = name in ("learning_rate", "strength", "widths", "channels")
        came = (value,) if numbers and isinstance(value, (int, float)) else value
        refused(f"{flag(name)} {rule}: got {came!r}.", method="l2", **{"strength": (0.1,), name: value})


@pytest.mark.parametrize("name", [f.name for f in fields(Experiment) if f.type == "bool"])
@pytest.mark.parametrize("value", ["false", "true", 0, 1, None])
def test_every_yes_or_no_is_true_or_false_and_nothing_like_it(name: str, value: object) -> None:
    refused(f"{flag(name)} must be true or false: got {value!r}.", **{name: value})


# Of a field's type, where it takes no known name: what is refused whatever its own rule.
NOT_NUMBERS = ("member_list", "options")
OF_NO_TYPE = {
    "int": ["3", 2.5, True, float("nan"), (1,)],
    "float": ["0.5", True, float("nan"), float("inf"), (0.5,)],
    "str": ["", 3, True],
    "tuple": ["8", (), ("8",), (True,), (float("nan"),), {}],
}


@pytest.mark.parametrize("name", [f.name for f in fields(Experiment) if f.name not in (*CHOICES, *NOT_NUMBERS)])
def test_every_field_refuses_what_is_not_of_its_type(name: str) -> None:
    kind = next((kind for kind in ("tuple", *OF_NO_TYPE) if kind in Experiment.__dataclass_fields__[name].type), "")
    for value in OF_NO_TYPE.get(kind, ()):
        with pytest.raises(ConfigError, match=f"^{flag(name)} must be ") as error:
            Experiment(**{name: value})
        assert error.value.fields == (name,)


def test_an_error_names_the_fields_that_break_the_rule_first_the_one_to_correct() -> None:
    with pytest.raises(ConfigError) as error:
        Experiment(examples=16, batch_size=32)
    assert error.value.fields == ("batch_size", "examples")
    with pytest.raises(ConfigError) as error:
        Experiment.from_dict({"momentum": 0.5}, "my.json")
    assert error.value.fields == ("momentum", "optimizer")


@pytest.mark.parametrize("seeds", [0, -3, (), (1, -1), (1, 2.0), (True,), 1.5, True, "3", None])
def test_seeds_are_a_count_or_a_list(seeds: object) -> None:
    refused(f"--seeds must be a count of at least 1 or a list of seeds: got {seeds!r}.", seeds=seeds)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("--seeds must not repeat a seed: got (3, 4, 3).", {"seeds": (3, 4, 3)}),
        (
            "--seed-start goes with a count of seeds: got a list and --seed-start. Drop one of them.",
            {"seeds": (3,), "seed_start": 5},
        ),
        (
            "--batch-size must not exceed --examples: got 32 > 16. Lower --batch-size.",
            {"examples": 16, "batch_size": 32},
        ),
        (
            "--strength needs a --method: got --strength (0.1,) with --method none. Choose a method or drop it.",
            {"strength": 0.1},
        ),
        ("--method l2 needs a --strength: got none. Say for example --strength 0.01.", {"method": "l2"}),
        ("--learning-rate must not repeat a value: got (0.1, 0.1).", {"learning_rate": (0.1, 0.1)}),
        ("--strength must not repeat a value: got (1, 1.0).", {"method": "l2", "strength": (1, 1.0)}),
        ("--channels belongs to --network cnn: got --network mlp. Drop one of them.", {"channels": (8,)}),
        (
            "--channels belongs to --network cnn: got --network mlp13.",
            {"benchmark": "cifar_shuffle", "network": "mlp13", "channels": (8,)},
        ),
        (
            "--momentum belongs to --optimizer sgd: got --optimizer adam. Use --beta1 instead.",
            {"momentum": 0.9},
        ),
        (
            "--engine cpu cannot train on --device cuda. Use --engine vmap or --device cpu.",
            {"engine": "cpu", "device": "cuda"},
        ),
        (
            "--engine cuda cannot train on --device cpu. Use --engine auto or --device cuda.",
            {"engine": "cuda", "device": "cpu"},
        ),
    ],
)
def test_impossible_combinations_are_refused(text: str, values: dict[str, object]) -> None:
    refused(text, **values)


@pytest.mark.parametrize(
    "values",
    [
        {"examples": 16, "batch_size": 16},
        {"strength": 0.0},
        {"method": "l2", "strength": (0, 0.1)},
        {"benchmark": "cifar_shuffle", "channels": (8,)},
        {"optimizer": "sgd", "momentum": 0.9},
        {"engine": "cuda", "device": "cuda"},
        {"engine": "vmap", "device": "cuda"},
        {"seeds": (0,), "seed_start": 0},
    ],
)
def test_possible_combinations_are_taken(values: dict[str, object]) -> None:
    Experiment(**values)


@pytest.mark.parametrize("anchor", [None, lambda init, layout: init])
def test_a_method_of_ones_own_takes_a_strength_where_it_has_an_anchor(anchor, monkeypatch) -> None:
    monkeypatch.setitem(TAKES_STRENGTH, "own", True)  # both are undone after the test
    monkeypatch.setitem(METHODS, "own", METHODS["none"])
    register("own", Method(anchor, False, "of this test", "here"))
    if anchor:
        assert Experiment(method="own", strength=0.5).strength == (0.5,)
        refused("--method own needs a --strength: got none.", method="own")
    else:
        assert Experiment(method="own").resolved().strength == (0.0,)
        refused("--strength needs a --method: got --strength (0.5,) with --method own.", method="own", strength=0.5)


def test_numbers_and_lists_become_tuples() -> None:
    e = Experiment(learning_rate=0.1, method="l2", strength=1, widths=[8, 4], seeds=[5, 2])
    assert (e.learning_rate, e.strength, e.widths, e.seeds) == ((0.1,), (1,), (8, 4), (5, 2))


def test_an_experiment_is_frozen_and_hashable() -> None:
    e = Experiment()
    with pytest.raises(AttributeError):
        e.epochs = 3  # type: ignore[misc]
    assert hash(e) == hash(Experiment())


def test_defaults_are_the_papers() -> None:
    e = Experiment()
    paper = {"examples": 1280, "batch_size": 16, "epochs": 200, "optimizer": "adam", "beta1": 0.9, "beta2": 0.999}
    paper |= {"epsilon": 1e-8, "label_shuffle": "example", "change_first_task": True, "pixel_range": "unit"}
    paper |= {"init": "glorot_uniform", "leaky_slope": 0.01, "reduction": "mean", "srank": "start"}
    assert {name: getattr(e, name) for name in paper} == paper
    assert e.epochs * e.steps_per_epoch() == 16_000


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name.split("_")[0] in ("mnist", "fashion", "cifar")])
def test_the_benchmark_decides_tasks_network_dataset_and_change(name: str) -> None:
    e = Experiment(benchmark=name)
    assert (e.tasks, e.network) == (None, None)
    full = e.resolved()
    cifar = name.startswith("cifar")
    assert (full.tasks, full.network, full.strength) == (50 if cifar else 100, "cnn" if cifar else "mlp", (0.0,))
    dataset = {"mnist": "mnist", "fashion": "fashion_mnist", "cifar": "cifar10"}[name.split("_")[0]]
    change = {"shuffle": "label_shuffle", "permute": "pixel_permute"}[name.split("_")[1]]
    assert (e.dataset, e.change) == (dataset, change)
    assert full.resolved() == full


def test_what_is_given_outlives_resolution() -> None:
    e = Experiment(benchmark="cifar_shuffle", tasks=3, network="mlp", method="l2", strength=0.5)
    assert e.resolved() == e


def test_members_are_rates_times_strengths_times_seeds_with_seeds_fastest() -> None:
    e = Experiment(seeds=2, seed_start=7, learning_rate=(0.1, 0.2), method="l2", strength=(0.0, 1.0))
    assert e.members() == tuple(
        Member(seed, rate, "l2", strength) for rate in (0.1, 0.2) for strength in (0.0, 1.0) for seed in (7, 8)
    )
    assert Experiment(seeds=(5, 3)).members() == (Member(5, 1e-3, "none", 0.0), Member(3, 1e-3, "none", 0.0))


def test_a_list_of_members_stands_in_place_of_their_product() -> None:
    members = (Member(3, 0.1, "l2", 0.5), Member(3, 0.2, "none", 0.0, beta1=0.5))
    e = Experiment(member_list=members)
    assert e.members() == members
    values = json.loads(json.dumps(e.resolved().to_dict()))
    assert "seeds" not in values
    assert Experiment.from_dict(values) == e.resolved()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"member_list": []}, "member_list must hold at least one member: got none."),
        ({"member_list": [Member(0, 0.1, "none", 0.0)] * 2}, "member_list must not repeat a member."),
        ({"member_list": [Member(0, 0.1, "none", 0.3)]}, "--strength needs a --method"),
        ({"member_list": [Member(0, -0.1, "none", 0.0)]}, "--learning-rate must be positive numbers"),
        ({"member_list": [Member(-1, 0.1, "none", 0.0)]}, "member_list must have seeds that are whole numbers"),
        ({"member_list": [{"seed": 0}]}, "member_list needs seed, learning_rate, method, strength of each member"),
        ({"member_list": [{"sed": 0}]}, "member_list has an unknown key: got 'sed'. Did you mean 'seed'?"),
        ({"member_list": [Member(0, 0.1, "none", 0.0)], "seeds": 3}, "member_list stands in place of --seeds"),
        ({"member_list": [Member(0, [0.1], "none", 0.0)]}, "member_list must hold a number or a name in each field"),
        ({"member_list": [Member(0, 0.1, {"l2": 1}, 0.0)]}, "member_list must hold a number or a name in each field"),
        ({"member_list": [Member(0, 0.1, "own", 0.0, options={"a": [1]})]}, "member_list must hold a number or a name"),
        ({"member_list": 3}, "member_list must be a list: got 3."),
    ],
)
def test_a_bad_list_of_members_is_refused(values: dict[str, object], text: str) -> None:
    refused(text, **values)


def test_the_last_batch_of_an_epoch_counts_as_an_update() -> None:
    assert [Experiment(examples=n, batch_size=4).steps_per_epoch() for n in (4, 5, 8, 9)] == [1, 2, 2, 3]


@pytest.mark.parametrize(
    ("optimizer", "mode", "decoupled"),
    [("adam", "auto", False), ("adamw", "auto", True), ("sgd", "auto", False), ("adam", "decoupled", True),
     ("adamw", "coupled", False), ("sgd", "decoupled", True)],
)  # fmt: skip
def test_weight_decay_is_decoupled_where_asked_and_for_adamw(optimizer: str, mode: str, decoupled: bool) -> None:
    assert Experiment(optimizer=optimizer, weight_decay_mode=mode).decoupled is decoupled


@pytest.mark.parametrize(
    "values",
    [{}, {"method": "l2", "strength": (0.1, 1), "seeds": (4, 2), "widths": (8, 4), "change_first_task": False}],
)
def test_a_dictionary_through_json_gives_the_experiment_back(values: dict[str, object]) -> None:
    for e in (Experiment(**values), Experiment(**values).resolved()):
        assert Experiment.from_dict(json.loads(json.dumps(e.to_dict()))) == e


def test_an_unknown_key_is_refused_with_the_closest_field() -> None:
    text = "my.json has an unknown key: got 'learnig_rate'. Did you mean 'learning_rate'? Known: benchmark, dataset"
    with pytest.raises(ConfigError, match=re.escape(text)):
        Experiment.from_dict({"learnig_rate": 0.1}, "my.json")


def test_an_error_in_a_file_names_the_file() -> None:
    with pytest.raises(ConfigError, match=re.escape("my.json: --epochs must be a whole number of at least 1: got 0.")):
        Experiment.from_dict({"epochs": 0}, "my.json")
    with pytest.raises(ConfigError, match=r"^--epochs must be"):
        Experiment.from_dict({"epochs": 0})


def test_a_flag_beats_the_file_and_the_file_beats_the_benchmark(tmp_path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"benchmark": "cifar_shuffle", "tasks": 7, "epochs": 9}))
    e = Experiment.from_dict(load_config(path) | parsed("--epochs", "2")).resolved()
    assert (e.network, e.tasks, e.epochs, e.examples) == ("cnn", 7, 2, 1280)
    assert Experiment.from_dict(load_config(path) | parsed("--tasks", "3")).resolved().tasks == 3
    assert Experiment.from_dict(parsed("--benchmark", "cifar_shuffle")).resolved().tasks == 50


def test_a_resolved_configuration_is_a_valid_file(tmp_path) -> None:
    path, e = tmp_path / "config.json", Experiment(benchmark="cifar_permute", seeds=3).resolved()
    path.write_text(json.dumps(e.to_dict()))
    assert Experiment.from_dict(load_config(path)) == e


@pytest.mark.parametrize(
    ("content", "text"),
    [("{", "--config must be JSON: got "), ("[1]", "--config must hold a JSON object: got list in "),
     (None, "--config must be a readable file: got ")],
)  # fmt: skip
def test_a_bad_file_is_refused(tmp_path, content: str | None, text: str) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=re.escape(text + ("" if text.endswith("in ") else str(path)))):
        load_config(path)


def test_absent_flags_are_absent() -> None:
    assert parsed() == {}


def test_every_field_has_a_flag_that_sets_it() -> None:
    words = {"seeds": "3,5", "learning_rate": "0.1,0.2", "strength": "0.5", "widths": "8,4", "channels": "8"}
    for f in fields(Experiment):
        if f.name in NOT_NUMBERS:
            continue
        if f.type == "bool":
            assert parsed(f"--no-{f.name.replace('_', '-')}") == {f.name: False}
            continue
        text = words.get(f.name, "0.25" if "float" in str(f.type) else "4" if "int" in str(f.type) else "some")
        value = parsed(flag(f.name), text)[f.name]
        tuples = {"seeds": (3, 5), "learning_rate": (0.1, 0.2), "strength": (0.5,), "widths": (8, 4), "channels": (8,)}
        tuples |= {"metrics": ("some",)}
        plain = float(text) if text == "0.25" else int(text) if text == "4" else text
        assert value == tuples.get(f.name, plain)
        assert type(value) is type(tuples.get(f.name, plain))


@pytest.mark.parametrize(
    ("words", "seeds"),
    [(["30"], 30), (["3,7"], (3, 7)), (["3", "7"], (3, 7)), (["3,7", "9"], (3, 7, 9)), (["3,"], (3,))],
)
def test_a_comma_makes_a_list_of_seeds_and_a_lone_number_is_a_count(words: list[str], seeds: object) -> None:
    assert parsed("--seeds", *words) == {"seeds": seeds}


@pytest.mark.parametrize(
    ("words", "text"),
    [(["--epochs", "x"], "--epochs must be a whole number: got 'x'"),
     (["--epochs", "2.5"], "--epochs must be a whole number: got '2.5'"),
     (["--beta1", "x"], "--beta1 must be a number: got 'x'"),
     (["--learning-rate", "1e-3,x"], "--learning-rate must be numbers: got '1e-3,x'")],
)  # fmt: skip
def test_a_word_that_is_no_number_is_wrong_usage(words: list[str], text: str, capsys) -> None:
    assert run(["train", *words]) == 2
    error = capsys.readouterr().err
    assert text in error
    assert len(error.splitlines()) == 1


def test_defaults_which_no_experiment_checks_again_obey_their_rules():
    for f in fields(Experiment):
        if f.metadata["rule"] is not None and f.default is not None:
            if f.metadata["choices"]:
                assert {*(f.default if isinstance(f.default, tuple) else (f.default,))} <= {*f.metadata["choices"]}, (
                    f.name
                )
            else:
                assert _broken_rule(f, f.default) is None, f.name
