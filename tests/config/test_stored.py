"""Configurations as runs store them: which fields are left out, and that files of every age are read and resumed."""

import json
import re
from dataclasses import fields, replace

import pandas as pd
import pytest
from small_runs import drain, small, table

import fastplast as fp
from fastplast.api import proceed, start
from fastplast.config import MACHINE_FIELDS, ConfigError, Experiment, flag, load_config
from fastplast.config.fields import CHOICES
from fastplast.sweeps.grid import as_group, group_digest

DEFAULTS = {f.name: f.default for f in fields(Experiment)}
HOW = {name: DEFAULTS[name] for name in (*MACHINE_FIELDS, "tf32", "compile")}
YOUNGER = ("dropout", "head_reset", "layer_norm", "class_order", "test_examples", "subset")
FILES = {
    "every field written": lambda config: HOW | config,
    "no default of the machine": lambda config: config,
    "written before there were some fields": lambda config: {k: v for k, v in config.items() if k not in YOUNGER},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return table(fp.train(small(tmp_path_factory.mktemp("whole") / "run")).path)


@pytest.fixture(params=FILES)
def cut(request, tmp_path):
    """A run that was cut short in its second task, with a configuration as one version or another writes it."""
    path = tmp_path / "run"
    _, events = start(small(path, checkpoint_minutes=1e-9))
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(FILES[request.param](config)))
    drain(events, after=3)
    events.close()  # type: ignore[attr-defined]
    return path


def test_a_file_of_every_age_is_resumed(cut, whole):
    pd.testing.assert_frame_equal(table(fp.resume(cut).path), whole, check_exact=True)


def test_what_a_file_leaves_out_is_its_default(cut):
    proceed(cut, overlap=False, engine="auto", dropout=0.0, test_examples=0)[1].close()  # type: ignore[attr-defined]
    for name, was, now in (
        ("overlap", False, True),
        ("dropout", 0.0, 0.5),
        ("test_examples", 0, 2),
        ("tf32", False, True),
    ):
        with pytest.raises(ValueError, match=rf"got {name}: {was} -> {now}\. Resume"):
            proceed(cut, **{name: now})


def test_how_to_compute_is_stored_where_it_is_not_the_default():
    assert not set(HOW) & set(Experiment().resolved().to_dict())
    changed = {"engine": "vmap", "device": "cpu", "threads": 2, "overlap": True, "checkpoint_minutes": 1.0, "out": "x"}
    e = Experiment(**changed, compile=True)  # type: ignore[arg-type]
    assert {name: value for name, value in e.to_dict().items() if name in HOW} == changed | {"compile": True}
    assert Experiment.from_dict(e.to_dict()) == e


def test_a_run_does_not_store_where_it_is(tmp_path):
    _, events = start(small(tmp_path / "run"))
    events.close()  # type: ignore[attr-defined]
    assert "out" not in json.loads((tmp_path / "run" / "config.json").read_text())


def test_digests_of_groups_are_those_of_stored_sweeps():
    cifar = {
        "benchmark": "cifar_shuffle",
        "network": "mlp",
        "dropout": 0.1,
        "threads": 3,
        "engine": "cpu",
        "overlap": True,
    }
    assert group_digest(as_group(Experiment())) == "bec0ebd63cf5"
    assert group_digest(as_group(Experiment(**cifar))) == "561c14c40e24"  # type: ignore[arg-type]


def test_a_key_that_occurs_twice_is_refused(tmp_path):
    path = tmp_path / "c.json"
    path.write_text('{"epochs": 3, "seeds": 2, "epochs": 4}')
    with pytest.raises(ConfigError, match=r"--config must be JSON: got .*epochs occurs twice"):
        load_config(path)


def test_false_of_a_file_in_place_of_off_is_told_to_be_quoted():
    with pytest.raises(ConfigError, match=r"--srank must be a known name: got False\. Write 'off' with quotes."):
        Experiment(srank=False)  # type: ignore[arg-type]


def test_members_that_were_checked_before_make_the_experiment_that_checks_them():
    group = Experiment(engine="cpu")
    members = Experiment(seeds=3, learning_rate=(1e-2, 1e-3), method="l2", strength=0.1).members()
    assert group.with_checked_members(members, "runs/a") == replace(group.of_members(members), out="runs/a")
    assert group == Experiment(engine="cpu")


@pytest.mark.parametrize("name", [name for name in CHOICES if name != "metrics"])
def test_a_field_of_one_name_refuses_several(name: str) -> None:
    for names in ((), CHOICES[name][:1], CHOICES[name][:2], [CHOICES[name][0]]):
        with pytest.raises(ConfigError, match=re.escape(f"{flag(name)} must be a known name: got {names!r}.")):
            Experiment(**{name: names})
