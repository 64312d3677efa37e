"""Examples that are never trained on, and errors on earlier tasks."""

import numpy as np
import pytest
import torch
from small_runs import small

import fastplast as fp
from fastplast import seeding
from fastplast.config import ConfigError, Experiment
from fastplast.data import load
from fastplast.drawing.columns import axis_of
from fastplast.measuring.probes import evaluate
from fastplast.problems import build_problem, make_task
from fastplast.training.start import start

SEEDS = (0, 3)


def problem(**values):
    e = Experiment(**{"examples": 64, "test_examples": 16, "seeds": SEEDS} | values).resolved()
    return build_problem(e, load(e.dataset), SEEDS)


@pytest.mark.parametrize("name", ["mnist_shuffle", "mnist_permute", "cifar_permute"])
@pytest.mark.parametrize("subset", ["per-seed", "fixed"])
def test_test_examples_are_others_and_move_no_training_example(name, subset):
    with_test, without = (problem(benchmark=name, subset=subset, test_examples=n) for n in (16, 0))
    task, plain = make_task(with_test, 2), make_task(without, 2)
    assert plain.test is None
    for field in ("rows", "labels") + (("pixels",) if "permute" in name else ()):
        assert torch.equal(getattr(task, field), getattr(plain, field))
    assert task.test is not None
    assert task.test.rows.shape == task.test.labels.shape == (2, 16)
    for own, held_out in zip(task.rows.tolist(), task.test.rows.tolist()):
        assert len({*own, *held_out}) == 80
    assert torch.equal(task.test.rows[0], task.test.rows[1]) == (subset == "fixed")
    if "permute" in name:
        assert torch.equal(task.test.labels, with_test.test_labels)
        assert torch.equal(task.test.pixels, task.pixels)


def test_labels_of_test_examples_are_shuffled_as_those_of_the_task():
    original = problem(label_shuffle="class")
    task = make_task(original, 1)
    names = torch.from_numpy(np.stack([seeding.permutation(seed, "labels", 10, 1) for seed in SEEDS]))
    assert torch.equal(task.labels, names.gather(1, original.labels))
    assert torch.equal(task.test.labels, names.gather(1, original.test_labels))
    task = make_task(problem(), 1)
    assert torch.equal(task.test.labels.sort(1).values, original.test_labels.sort(1).values)
    assert not torch.equal(task.test.labels, original.test_labels)
    redrawn = make_task(problem(label_shuffle="iid"), 1).test.labels
    assert [len(set(row)) > 3 for row in redrawn.tolist()] == [True, True]
    assert not torch.equal(redrawn, make_task(problem(label_shuffle="iid"), 2).test.labels)


def test_more_images_than_there_are_cannot_be_held_out():
    with pytest.raises(ConfigError, match=r"--test-examples must not exceed .*: got 60000 \+ 100 of"):
        problem(benchmark="cifar_shuffle", examples=60000, test_examples=100)


def test_a_run_has_test_errors_and_errors_on_earlier_tasks(tmp_path):
    values = {"benchmark": "mnist_permute", "test_examples": 30, "srank": "off", "tasks": 4, "epochs": 3}
    plain = fp.train(small(tmp_path / "plain", **values)).metrics()
    run = fp.train(small(tmp_path / "run", **values, earlier_tasks=2))
    table = run.metrics()
    assert table[plain.columns].equals(plain)
    assert plain.test_error.between(0, 1).all()
    ends = table[table.when == "end"].set_index(["task", "member"])
    assert ends.loc[0, ["earlier_error", "earlier_error_1", "earlier_test_error_2"]].isna().all(axis=None)
    assert ends.loc[1, "earlier_error"].equals(ends.loc[1, "earlier_error_1"].rename("earlier_error"))
    pair = ends.loc[3, ["earlier_error_1", "earlier_error_2"]]
    assert ends.loc[3, "earlier_error"].to_numpy() == pytest.approx(pair.mean(axis=1).to_numpy())
    setup, events = start(small(tmp_path / "again", **values))
    for _ in events:
        pass
    for member in (0, 1):
        for back in (1, 2):
            task = make_task(setup.problem, 3 - back)
            for name, own in (("earlier_error", task), ("earlier_test_error", task.test)):
                found = evaluate(setup.group.network, setup.state.params[member], own, member).error
                assert ends.loc[(3, member), f"{name}_{back}"] == found
    assert axis_of("earlier_error").most == 1.0
