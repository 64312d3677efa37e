"""``--compile``: the vmap engine's gradients by torch.compile, and on a GPU its updates as graphs."""

import shutil

import pytest
import torch
from assertions import assert_close, assert_same_state

from fastplast.config import ConfigError, Experiment
from fastplast.engines import VmapEngine, choose, choose_engine, vmap

CPU = torch.device("cpu")
needs_compiler = pytest.mark.skipif(not shutil.which("g++") and not shutil.which("clang++"), reason="no C++ compiler")


def own_module():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 9), torch.nn.Tanh(), torch.nn.Linear(9, 5))


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("module", [None, own_module], ids=["mlp", "own module"])
def test_a_compiled_engine_trains_as_the_other_does(make_trial, module):
    from torch._inductor import config as inductor  # seconds to import, for every process that collects tests

    plain, compiled = make_trial(module=module), make_trial(module=module)
    compiled.engine = VmapEngine(compiled.group, compiled.state, CPU, compiled=True)
    with inductor.patch(compile_threads=1):  # no workers that outlive the test
        a, b = plain.train(2), compiled.train(2)
    assert_close("params", compiled.state.params, plain.state.params, dtype=torch.float32, length=10**4)
    assert_close("loss", b.loss, a.loss, dtype=torch.float32, length=10**4)
    assert torch.equal(plain.state.steps, compiled.state.steps)


def captures(trial, monkeypatch):
    """Replays by calling: memory, places and their number are those of a GPU."""
    made = []

    def capture(work, changed):
        kept = [tensor.clone() for tensor in changed]
        work()  # as before a capture
        for tensor, before in zip(changed, kept):
            tensor.copy_(before)
        made.append(work)
        return work

    monkeypatch.setattr(vmap, "capture", capture)
    trial.engine._captures = True
    return made


def test_updates_are_captured_once_for_each_task_and_size_of_batch(make_trial, monkeypatch):
    plain, replayed = (
        make_trial(method="wasserstein", strength=(0.3,)),
        make_trial(method="wasserstein", strength=(0.3,)),
    )
    made = captures(replayed, monkeypatch)
    tasks = [replayed.task(0), replayed.task(1)]
    for index, task in enumerate(tasks):
        for epoch in range(2):
            a = plain.engine.run(plain.state, plain.task(index), plain.order(epoch, index))
            b = replayed.engine.run(replayed.state, task, replayed.order(epoch, index))
            assert torch.equal(a.loss, b.loss)
            assert torch.equal(a.steps, b.steps)
    assert len(made) == 4  # two tasks, batches of 16 and of 8
    assert_same_state(plain.state, replayed.state)


def test_a_network_that_cannot_be_captured_is_named(make_trial, monkeypatch):
    trial = make_trial()
    captures(trial, monkeypatch)

    def refuse(work, changed):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(vmap, "capture", refuse)
    with pytest.raises(ConfigError, match="--compile must be able to capture an update: got 'operation not permitted"):
        trial.train()


@pytest.mark.parametrize("engine", ["auto", "cpu", "cuda"])
def test_it_belongs_to_the_vmap_engine(engine):
    with pytest.raises(ConfigError, match=f"--compile belongs to --engine vmap: got --engine {engine}"):
        Experiment(compile=True, engine=engine)


def test_it_is_part_of_the_configuration_only_where_it_is_given():
    assert "compile" not in Experiment().to_dict()
    assert Experiment.from_dict(Experiment(compile=True, engine="vmap").to_dict()).compile


def test_what_is_missing_to_compile_is_named(make_trial, monkeypatch):
    trial, experiment = make_trial(), Experiment(compile=True, engine="vmap")
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(choose.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"--compile needs a C\+\+ compiler: there is no g\+\+ or clang\+\+ or cl on"):
        choose_engine(experiment, trial.group, trial.state, CPU)
    monkeypatch.setattr(choose.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="--compile needs Triton, which is not installed"):
        choose_engine(experiment, trial.group, trial.state, torch.device("cuda"))
