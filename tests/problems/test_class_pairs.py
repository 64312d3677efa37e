"""Continual ImageNet's protocol: which classes and images make a task, and how results name it."""

import numpy as np
import pytest
import torch

import fastplast as fp
from fastplast.config import ConfigError, Experiment
from fastplast.problems import Problem, build_problem, make_task

PAIRS = {"benchmark": "class_pairs", "dataset": "cifar10", "examples": 16, "test_examples": 6, "batch_size": 8}


@pytest.fixture
def build(make_dataset):
    def build(seeds: tuple[int, ...] = (4, 0), images: int = 72, classes: int = 6, **fields: object) -> Problem:
        e = Experiment(**PAIRS | fields).resolved()  # type: ignore[arg-type]
        return build_problem(e, make_dataset(images, (3, 4, 5), classes), seeds)

    return build


def classes_of(problem: Problem, rows: torch.Tensor) -> torch.Tensor:
    owner = np.zeros(sum(map(len, problem.classes)), dtype=np.int64)
    for number, own in enumerate(problem.classes):
        owner[own] = number
    return torch.from_numpy(owner)[rows]


@pytest.mark.parametrize("subset", ["fixed", "per-seed"])
def test_a_task_is_two_classes_with_images_of_their_own_for_testing(build, subset):
    problem = build(subset=subset)
    for index in range(3):
        task = make_task(problem, index)
        assert task.num_classes == 2
        for m in range(2):
            both = classes_of(problem, task.rows[m]), classes_of(problem, task.test_rows[m])
            assert [len(set(own.tolist())) for own in both] == [2, 2]
            for label in (0, 1):
                own = both[0][task.labels[m] == label], both[1][task.test_labels[m] == label]
                assert len(torch.cat(own).unique()) == 1
            used = [*task.rows[m].tolist(), *task.test_rows[m].tolist()]
            assert len(set(used)) == 16 + 6
        assert task.labels.sum(1).tolist() == [8, 8]


def test_every_class_comes_once_before_the_pairs_repeat(build):
    problem = build()
    pairs = [classes_of(problem, make_task(problem, index).rows)[0].unique().tolist() for index in range(6)]
    assert sorted(c for pair in pairs[:3] for c in pair) == list(range(6))
    assert pairs[:3] == pairs[3:]


def test_redrawn_orders_give_other_pairs(build):
    problem, repeated = build(class_order="redraw"), build()
    first, second = ([make_task(problem, i).rows for i in range(a, a + 3)] for a in (0, 3))
    assert all(torch.equal(a, make_task(repeated, i).rows) for i, a in enumerate(first))
    assert not all(torch.equal(a, b) for a, b in zip(first, second))


def test_fixed_images_are_the_first_of_their_class_for_every_seed(build):
    problem = build(subset="fixed", seeds=(1, 2, 3))
    for index in range(3):
        task = make_task(problem, index)
        for m in range(3):
            for c in classes_of(problem, task.rows[m]).unique().tolist():
                own = problem.classes[c]
                assert set(own[:8]) <= set(task.rows[m].tolist())
                assert set(own[8:11]) <= set(task.test_rows[m].tolist())


def test_a_task_without_test_examples_has_none(build):
    assert make_task(build(test_examples=0), 0).test is None


def test_presets_are_those_of_dohare_et_al():
    e = Experiment(benchmark="continual_imagenet").resolved()
    assert (e.dataset, e.examples, e.test_examples, e.batch_size) == ("imagenet32", 1200, 200, 100)
    assert (e.network, e.subset, e.class_order) == ("convnet", "fixed", "repeat")
    assert e.epochs * e.steps_per_epoch() == 2400


@pytest.mark.parametrize(
    ("problem", "dataset", "named"),
    [("continual_imagenet", "cifar10", "class_pairs"), ("mnist_shuffle", "cifar10", "label_shuffle"),
     ("cifar_permute", "./mine", "pixel_permute"), ("mnist_shuffle", "mnist", "mnist_shuffle"),
     ("class_pairs", "mnist", "class_pairs")],
)  # fmt: skip
def test_a_benchmark_on_other_data_is_called_by_what_changes(problem, dataset, named):
    e = Experiment(benchmark=problem, dataset=dataset).resolved()
    assert (e.benchmark, e.dataset) == (named, dataset)
    assert Experiment.from_dict(e.to_dict()).resolved() == e


@pytest.mark.parametrize(
    ("fields", "text"),
    [({"benchmark": "class_pairs"}, "--benchmark class_pairs needs a --dataset: got none. Known: mnist,"),
     ({"dataset": "cifar"}, "--dataset must be a known name or a path: got 'cifar'. Did you mean 'cifar10'"),
     ({"examples": 15}, "--examples must be even, for two classes of as many: got 15"),
     ({"test_examples": 5}, "--test-examples must be even"),]
)  # fmt: skip
def test_contradictions_are_refused(fields, text):
    kept = {} if fields.get("benchmark") == "class_pairs" else PAIRS
    with pytest.raises(ConfigError, match=text):
        Experiment(**kept | fields)


def test_too_few_images_of_a_class_are_refused(build):
    with pytest.raises(ConfigError, match=r"must not exceed the images of two classes of synthetic: got 20 \+ 6 of 24"):
        build(examples=20)
    with pytest.raises(ConfigError, match="needs at least two classes"):
        build(classes=1)


def test_a_run_has_test_error_beside_training_error(tmp_path):
    small = {"tasks": 2, "epochs": 2, "seeds": 2, "channels": (3, 4, 5), "widths": (8, 7)}
    small |= {"test_examples": 20, "head_reset": "zero"}
    e = fp.Experiment(benchmark="continual_imagenet", dataset="cifar10", **small, examples=40, batch_size=10,
                      out=str(tmp_path / "r"))  # fmt: skip
    metrics = fp.train(e).metrics()
    assert metrics.test_error.notna().all()
    assert metrics.test_loss.notna().all()
    assert set(metrics.benchmark) == {"class_pairs"}
    assert metrics.hessian_srank[metrics.when == "start"].notna().all()
    short = fp.train(fp.Experiment(**e.to_dict() | {"tasks": 1, "out": str(tmp_path / "s")})).metrics()
    pairs = metrics[metrics.task == 0].test_error.tolist(), short.test_error.tolist()
    assert pairs[0] == pytest.approx(pairs[1], abs=0.051)
