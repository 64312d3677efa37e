import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from assertions import assert_close, assert_same_bits

from fastplast.config import ConfigError, Experiment
from fastplast.problems import CHANGES, Problem, Task, build_problem, make_task

SEEDS = (4, 0, 9)
BENCHMARK = {"label_shuffle": "cifar_shuffle", "pixel_permute": "cifar_permute"}
OTHERS = ("label_drift", "bit_flip", "class_incremental", "five_plus_one", "warm_start", "noisy_chunks")
SIZES = {"examples": 4, "test_examples": 5}  # of those that need several times as many images
SAME_IMAGES = ("label_shuffle", "pixel_permute")
PAIRS = {"benchmark": "class_pairs", "dataset": "cifar10", "examples": 16, "test_examples": 6}
SHAPE = (3, 4, 5)


@pytest.fixture
def build(make_dataset):
    def build(change: str, seeds: tuple[int, ...] = SEEDS, images: int = 60, **fields: object) -> Problem:
        own = PAIRS if change == "class_pairs" else {"benchmark": BENCHMARK.get(change, change), "examples": 40}
        if change in OTHERS:
            own |= {"dataset": "cifar10"} | (SIZES if change == "noisy_chunks" else {})
        e = Experiment(**own | {"batch_size": 4} | fields)  # type: ignore[arg-type]
        images, classes = (320, 8) if change in ("class_incremental", "five_plus_one") else (images, 5)
        return build_problem(e.resolved(), make_dataset(images, SHAPE, classes), seeds)

    return build


def inputs(task: Task, member: int) -> torch.Tensor:
    """Inputs of one member by the definition of a task, one number at a time."""
    rows, pixels = task.rows[member].tolist(), None if task.pixels is None else task.pixels[member].tolist()
    x = torch.empty(len(rows), task.images.shape[1])
    for n, row in enumerate(rows):
        for i in range(x.shape[1]):
            p = i if pixels is None else pixels[i]
            x[n, i] = float(task.images[row, p]) * task.scale[p] + task.shift[p]
    return x


def varying(task: Task) -> list[torch.Tensor]:
    """What of a task belongs to its members."""
    tables = (task.rows, task.labels, task.pixels, task.test_rows, task.test_labels)
    return [table for table in tables if table is not None]


@pytest.mark.parametrize("change", CHANGES)
def test_a_task_is_of_its_seed_and_number_alone(build, change: str) -> None:
    together = build(change)
    for index in (3, 0, 1):  # in no order, and after no earlier task
        alone = make_task(build(change, seeds=(0,)), index)
        among = make_task(build(change, seeds=(11, 0, 0, 2, 7)), index)
        for a, b, c in zip(varying(alone), varying(make_task(together, index)), varying(among)):
            assert_same_bits("beside others", b[1], a[0])
            assert_same_bits("beside itself", c[1], a[0])
            assert_same_bits("twice", c[2], a[0])


@pytest.mark.parametrize("change", CHANGES)
def test_a_short_sequence_is_a_prefix_of_a_long_one(build, change: str) -> None:
    for index in (0, 2):
        for a, b in zip(varying(make_task(build(change, tasks=3), index)), varying(make_task(build(change), index))):
            assert_same_bits("task", a, b)


@pytest.mark.parametrize("change", SAME_IMAGES)
def test_tasks_and_members_differ(build, change: str) -> None:
    problem = build(change)
    last = [varying(make_task(problem, index))[-1 if change == "pixel_permute" else 1] for index in range(4)]
    for a, b in pairwise(last):
        assert ((a != b).any(1)).all()
    assert (last[0][0] != last[0][1]).any()
    assert (last[0][1] != last[0][2]).any()


@pytest.mark.parametrize("change", SAME_IMAGES)
def test_the_first_task_is_unchanged_where_asked(build, change: str) -> None:
    problem = build(change, change_first_task=False)
    first = make_task(problem, 0)
    assert first.pixels is None
    assert_same_bits("labels", first.labels, problem.labels)
    for a, b in zip(varying(make_task(problem, 1)), varying(make_task(build(change), 1))):
        assert_same_bits("task 1", a, b)


@pytest.mark.parametrize("change", SAME_IMAGES)
def test_only_labels_or_only_pixels_change(build, change: str) -> None:
    problem = build(change)
    for task in (make_task(problem, 0), make_task(problem, 1)):
        assert_same_bits("rows", task.rows, problem.rows)
        assert (task.pixels is None) == (change == "label_shuffle")
        assert torch.equal(task.labels, problem.labels) == (change == "pixel_permute")
        assert (task.index, task.shape, task.num_classes) == (task.index, SHAPE, 5)
        assert (task.num_members, task.num_examples) == (3, 40)


def test_example_shuffle_keeps_the_counts_of_classes(build) -> None:
    problem = build("label_shuffle")
    for index in range(3):
        for labels, original in zip(make_task(problem, index).labels, problem.labels):
            assert torch.equal(labels.bincount(minlength=5), original.bincount(minlength=5))


def test_class_shuffle_renames_classes(build) -> None:
    problem = build("label_shuffle", label_shuffle="class")
    names = set()
    for index in range(4):
        for labels, original in zip(make_task(problem, index).labels, problem.labels):
            renamed = {(int(a), int(b)) for a, b in zip(original, labels)}
            assert len(renamed) == 5
            assert {b for _, b in renamed} == set(range(5))
            names.add(tuple(sorted(renamed)))
    assert len(names) > 8


def test_iid_labels_are_uniform_over_classes(build) -> None:
    problem = build("label_shuffle", seeds=tuple(range(20)), label_shuffle="iid")
    labels = torch.cat([make_task(problem, index).labels for index in range(5)])
    counts = labels.flatten().bincount(minlength=5).double()
    expected = labels.numel() / 5
    assert len(counts) == 5
    assert ((counts - expected) ** 2 / expected).sum() < 18.5  # 99.9 % of chi-square with 4 degrees of freedom
    assert (problem.labels[0].bincount() != labels[0].bincount(minlength=5)).any()


def test_labels_of_a_task_start_again_from_the_datasets(build, make_dataset) -> None:
    problem = build("label_shuffle")
    dataset = make_dataset(60, SHAPE)
    assert_same_bits("labels", problem.labels, torch.from_numpy(dataset.labels[problem.rows.numpy()]))
    before = problem.labels.clone()
    make_task(problem, 2)
    assert_same_bits("labels of the dataset", problem.labels, before)


def test_inputs_are_those_of_the_definition(build) -> None:
    for change in SAME_IMAGES:
        for pixel_range in ("unit", "symmetric", "standardized"):
            task = make_task(build(change, pixel_range=pixel_range), 1)
            positions = torch.tensor([[5, 0, 39], [1, 1, 7], [3, 2, 1]])
            found = task.inputs(positions)
            assert found.dtype == torch.float32
            for m in range(3):
                assert_close(f"{change} {pixel_range} {m}", found[m], inputs(task, m)[positions[m]])


def test_permuted_images_keep_their_pixels_and_move_channels_together(build) -> None:
    problem = build("pixel_permute")
    plain = replace(make_task(problem, 1), pixels=None)
    task, positions = make_task(problem, 1), torch.arange(40).expand(3, 40)
    before, after = (t.inputs(positions).reshape(3, 40, 3, 20) for t in (plain, task))
    assert_same_bits("values of each channel", after.sort(-1).values, before.sort(-1).values)
    moved = task.pixels.reshape(3, 3, 20)
    assert_same_bits("channels", moved, moved[:, :1] + 20 * torch.arange(3)[:, None])
    for m in range(3):
        assert_same_bits("permuted", after[m], before[m][:, :, moved[m, 0]])


def test_each_seed_draws_its_examples_or_all_take_those_of_seed_zero(build) -> None:
    own, fixed = build("label_shuffle").rows, build("label_shuffle", subset="fixed").rows
    for rows in (own, fixed):
        assert all(len(set(row.tolist())) == 40 for row in rows)
    assert_same_bits("fixed", fixed, own[1].expand(3, -1))
    assert not torch.equal(own[0], own[1])
    labels = make_task(build("label_shuffle", subset="fixed"), 0).labels
    assert (labels[0] != labels[1]).any()


def test_fewer_examples_are_a_prefix_of_more(build) -> None:
    assert_same_bits("rows", build("label_shuffle", examples=20).rows, build("label_shuffle").rows[:, :20])


@pytest.mark.parametrize(("pixel_range", "low", "high"), [("unit", 0.0, 1.0), ("symmetric", -1.0, 1.0)])
def test_bytes_map_onto_the_range(build, pixel_range: str, low: float, high: float) -> None:
    problem = build("label_shuffle", pixel_range=pixel_range)
    assert_close("of 0", problem.shift, torch.full((60,), low))
    assert_close("of 255", 255 * problem.scale + problem.shift, torch.full((60,), high))


def test_standardized_inputs_have_mean_zero_and_variance_one_per_channel(build, make_dataset) -> None:
    dataset = make_dataset(60, SHAPE)
    images = dataset.images.reshape(60, 3, 20)
    images[:, 1] //= 4
    images[:, 2] = images[:, 2] // 2 + 90
    e = Experiment(benchmark="cifar_shuffle", examples=40, pixel_range="standardized").resolved()
    problem = build_problem(e, dataset, SEEDS)
    x = (torch.from_numpy(dataset.images).double() * problem.scale + problem.shift).reshape(60, 3, 20)
    assert_close("mean", x.mean((0, 2)), torch.zeros(3), length=1200, scale=1.0)
    assert_close("variance", x.var((0, 2), correction=0), torch.ones(3), length=1200)


def test_too_many_examples_are_refused(build, make_dataset) -> None:
    text = "--examples must not exceed the images of synthetic: got 61 of 60 (made by hand). Lower --examples."
    with pytest.raises(ConfigError, match="^" + re.escape(text) + "$"):
        build("label_shuffle", examples=61)
    assert build("label_shuffle", examples=60).rows.shape == (3, 60)
    e = Experiment(examples=61).resolved()
    with pytest.raises(ConfigError, match=r"Run `fastplast data fetch synthetic` for all of it."):
        build_problem(e, replace(make_dataset(60, SHAPE), path=None), SEEDS)


def test_images_are_shared_and_not_copied(build, make_dataset) -> None:
    dataset = make_dataset(60, SHAPE)
    problem = build_problem(Experiment(examples=40).resolved(), dataset, SEEDS)
    assert np.shares_memory(problem.images.numpy(), dataset.images)
    assert make_task(problem, 1).images is problem.images
