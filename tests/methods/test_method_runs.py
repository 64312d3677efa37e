"""Whole runs and sweeps with methods: stored, stopped, resumed, and what their tables say."""

import re

import pytest
from method_cases import member
from small_runs import SMALL, drain, small, table

import fastplast as fp
from fastplast.cli.main import run
from fastplast.config import METHOD_OPTIONS, TAKES_STRENGTH
from fastplast.engines import MethodError
from fastplast.methods import METHODS, Method, register
from fastplast.training.start import proceed, start


@pytest.fixture
def own_name(monkeypatch):
    """A name for a method of one's own, forgotten afterwards."""
    yield "mine"
    for known in (METHODS, METHOD_OPTIONS, TAKES_STRENGTH):
        known.pop("mine", None)


def test_an_error_of_a_hook_names_method_hook_and_update_and_the_run_resumes(own_name, tmp_path):
    def shrink(seen, last=10**9):
        if int(seen.number.max()) > last:
            raise ZeroDivisionError("a mistake")
        return 0.999 * seen.params

    register(own_name, Method(after_update=shrink, summary="shrinks"))
    whole = fp.train(small(tmp_path / "whole", method=own_name, srank="off"))
    METHODS.pop(own_name)
    register(own_name, Method(after_update=lambda seen: shrink(seen, last=13), summary="shrinks"))
    text = "after_update of the method 'mine' at update 14 failed: ZeroDivisionError: a mistake. The run's last"
    with pytest.raises(MethodError, match=re.escape(text)):
        fp.train(small(tmp_path / "cut", method=own_name, srank="off"))
    METHODS.pop(own_name)
    register(own_name, Method(after_update=shrink, summary="shrinks"))
    again = fp.resume(tmp_path / "cut")
    assert table(again.path).equals(table(whole.path))


@pytest.mark.parametrize("engine", ["cpu", "vmap"])
def test_a_run_of_mixed_methods_stops_and_resumes_to_the_same_bits_and_stores_what_they_did(engine, tmp_path):
    members = tuple(member(name, i) for i, name in enumerate(("cbp", "snr", "shrink_perturb", "fire")))
    fields = {"member_list": members, "seeds": 10, "srank": "off", "engine": engine, "optimizer_reset": "moments"}
    whole = fp.train(small(tmp_path / "whole", **fields))
    stops = iter([False, False, True])
    _, events = start(small(tmp_path / "cut", **fields), stop=lambda: next(stops, False))
    drain(events)
    _, events = proceed(tmp_path / "cut")
    drain(events)
    assert table(tmp_path / "cut").equals(table(whole.path))
    found = whole.metrics()
    ends = found[found.when == "end"]
    assert (ends[ends.method == "cbp"].resets_fc1 > 0).all()
    assert (ends[ends.method == "fire"].resets_fc1 == 0).all()
    assert "resets_{layer}" in whole.definitions
    assert found[found.method == "cbp"].cbp_rate.unique().tolist() == [0.05]
    assert found[found.method == "fire"].cbp_rate.isna().all()
    assert set(found.optimizer_reset) == {"moments"}


def test_runs_without_such_methods_have_no_new_column_or_file_entry(tmp_path):
    run = fp.train(small(tmp_path / "plain", method="l2", strength=0.1, srank="off", tasks=1))
    assert "options" not in run.config
    assert "optimizer_reset" not in run.config
    assert not [c for c in run.metrics().columns if c.startswith(("resets", "cbp", "optimizer_reset"))]
    assert "resets_{layer}" not in run.definitions


def test_the_command_line_trains_and_sweeps_hyperparameters_of_methods(tmp_path, capsys):
    sizes = [word for name, value in (SMALL | {"tasks": 2}).items() if name != "widths"
             for word in (f"--{name}", str(value))]  # fmt: skip
    common = ["--widths", "12,10,8", "--srank", "off", "--quiet", "--seeds", "2", *sizes]
    rates = ["--shrink-perturb-shrink", "0", "0.1", "--shrink-perturb-perturb", "0", "--shrink-perturb-when", "task"]
    one, many = tmp_path / "one", tmp_path / "many"
    assert run(["train", "--method", "shrink_perturb", *rates, "--out", str(one), *common]) == 0
    found = fp.load(one).metrics()
    assert found.groupby("shrink_perturb_shrink").seed.nunique().to_dict() == {0.0: 2, 0.1: 2}
    assert set(found.shrink_perturb_when) == {"task"}
    methods = ["sweep", "--method", "none", "shrink_perturb", *rates, "--out", str(many), *common]
    assert run(methods) == 0
    swept = fp.load(many).metrics()
    assert len(swept) == 3 * 2 * 2 * 2  # settings, seeds, tasks, times
    weights = swept.query("task == 1 and when == 'end'").set_index(["method", "shrink_perturb_shrink", "seed"])
    errors = weights.weight_norm_l2
    assert errors["shrink_perturb", 0.0].tolist() == errors["none"].tolist()
    assert (errors["shrink_perturb", 0.1] < errors["none"].to_numpy()).all()
    assert run(methods) == 0  # nothing is left to train
    assert len(fp.load(many).metrics()) == len(swept)
