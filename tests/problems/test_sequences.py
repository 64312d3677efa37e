"""Problems of the field: what their tasks are, one after the other."""

import math

import numpy as np
import pytest
import torch
from assertions import assert_same_bits
from small_runs import small, table

import fastplast as fp
from fastplast.cli.main import run
from fastplast.config import ConfigError, Experiment
from fastplast.data import Dataset, from_arrays, load
from fastplast.problems import Problem, Task, build_problem, make_task
from fastplast.problems.bit_flip import digits, slow_bits, target
from fastplast.problems.growing import NOISE

SEEDS = (4, 9)


def dataset(classes: int = 13, each: int = 30) -> Dataset:
    labels = np.random.default_rng(1).permutation(np.arange(classes * each) % classes)
    return from_arrays(np.random.default_rng(0).integers(0, 256, (len(labels), 4, 4), dtype=np.uint8), labels)


def build(benchmark: str, data: Dataset | None = None, **fields) -> Problem:
    own = {"dataset": "./own", "examples": 40, "batch_size": 8, "test_examples": 0}
    e = Experiment(benchmark=benchmark, **own | fields)
    return build_problem(e.resolved(), data or dataset(), SEEDS)


def tasks(problem: Problem, count: int) -> list[Task]:
    return [make_task(problem, index) for index in range(count)]


def classes_of(task: Task, member: int) -> list[int]:
    return sorted(set(task.labels[member].tolist()))


@pytest.mark.parametrize("new", [1, 2, 5])
def test_class_incremental_tasks_add_classes_and_keep_the_old(new):
    data = dataset(each=40)
    problem = build("class_incremental", data, examples=26, new_classes=new, test_examples=12)
    found = tasks(problem, 15)
    for member in (0, 1):
        before: list[int] = []
        for index, task in enumerate(found):
            now = classes_of(task, member)
            assert len(now) == min(new * (index + 1), 13)
            assert set(before) <= set(now)
            counts = task.labels[member].bincount(minlength=13)[now]
            assert int(counts.max() - counts.min()) <= 1
            assert len(set(task.rows[member].tolist())) == 26
            before = now
    trained = torch.cat([task.rows for task in found], 1)
    for member in (0, 1):
        tested = set(torch.cat([task.test_rows for task in found], 1)[member].tolist())
        assert tested.isdisjoint(trained[member].tolist())
    for task in found:
        assert_same_bits("labels", task.labels, torch.from_numpy(data.labels)[task.rows])
        assert_same_bits("test labels", task.test_labels, torch.from_numpy(data.labels)[task.test_rows])
    assert problem.num_classes == 13


def test_five_classes_and_one_come_in_turn_and_none_twice_before_all_have_come():
    problem = build("five_plus_one", test_examples=10)
    found = tasks(problem, 8)
    for member in (0, 1):
        seen: list[int] = []
        for index, task in enumerate(found[:4]):
            now = classes_of(task, member)
            assert len(now) == (1 if index % 2 else 5)
            assert not set(now) & set(seen)
            seen += now
            distinct, times = task.rows[member].unique(return_counts=True)
            assert (len(distinct), set(times.tolist())) == ((8, {5}) if index % 2 else (40, {1}))
        assert len(seen) == 12  # of 13: fewer than six are left
        tested = set(torch.cat([task.test_rows for task in found], 1)[member].tolist())
        assert tested.isdisjoint(torch.cat([task.rows for task in found], 1)[member].tolist())
    for a, b in zip(found[:4], found[4:]):
        assert_same_bits("again", a.rows, b.rows)
    assert classes_of(found[0], 0) != classes_of(found[0], 1)


@pytest.mark.parametrize(
    ("name", "data", "fields", "text"),
    [
        ("five_plus_one", dataset(5), {}, "needs at least six classes: got 5"),
        ("five_plus_one", dataset(7, 8), {"examples": 45}, "images of five classes of own: got 45 [+] 0 of 40"),
        ("class_incremental", dataset(7, 8), {"new_classes": 3}, "images of 3 classes of own: got 40 [+] 0 of 24"),
        ("noisy_chunks", dataset(7, 8), {}, "must not exceed the images of own: got 400 of 56"),
    ],
)
def test_data_that_do_not_suffice_are_refused(name, data, fields, text):
    with pytest.raises(ConfigError, match=text):
        build(name, data, **fields)


def test_a_warm_start_is_half_of_the_examples_twice_and_then_all():
    problem = build("warm_start", test_examples=6)
    first, second, third = tasks(problem, 3)
    assert_same_bits("half", first.rows, torch.cat([problem.rows[:, :20]] * 2, 1))
    assert_same_bits("labels of half", first.labels, torch.cat([problem.labels[:, :20]] * 2, 1))
    for task in (second, third):
        assert_same_bits("all", task.rows, problem.rows)
        assert_same_bits("labels", task.labels, problem.labels)
    for member in (0, 1):
        assert len(set(problem.rows[member].tolist()) | set(problem.test_rows[member].tolist())) == 46
    assert_same_bits("tests", first.test_rows, second.test_rows)


def test_noisy_chunks_are_other_images_with_ever_fewer_wrong_labels():
    data = dataset(10, 1_000)
    problem = build("noisy_chunks", data, examples=900, test_examples=50)
    found = tasks(problem, 11)
    truth = torch.from_numpy(data.labels)
    for member in (0, 1):
        rows = torch.cat([task.rows[member] for task in found[:10]])
        assert len(rows.unique()) == 9_000
        assert set(rows.tolist()).isdisjoint(problem.test_rows[member].tolist())
        for share, task in zip(NOISE, found):
            wrong = float((task.labels[member] != truth[task.rows[member]]).double().mean())
            expected = share * 0.9  # a redrawn label is the right one in one of ten cases
            assert abs(wrong - expected) <= 4 * math.sqrt(expected * (1 - expected) / 900)
    assert NOISE == (0.5, 0.4, 0.4, 0.3, 0.3, 0.2, 0.2, 0.1, 0.1, 0.0)
    assert_same_bits("again", found[10].labels, found[0].labels)
    assert_same_bits("test labels", found[3].test_labels, truth[problem.test_rows])


def test_labels_drift_from_one_shuffle_to_the_next():
    shuffled, drifting = build("label_shuffle", examples=390), build("label_drift", examples=390, drift_tasks=4)
    for whole in (0, 1):
        before, after = (make_task(shuffled, whole + more).labels for more in (0, 1))
        assert_same_bits("whole", make_task(drifting, 4 * whole).labels, before)
        gone = torch.zeros_like(before, dtype=torch.bool)
        for part in (1, 2, 3):
            labels = make_task(drifting, 4 * whole + part).labels
            assert bool(((labels == before) | (labels == after)).all())
            changed = labels != before
            assert bool((changed | ~gone).all())  # what has gone over stays
            expected = part / 4 * float((before != after).double().mean())
            assert abs(float(changed.double().mean()) - expected) < 4 * math.sqrt(0.25 / 780)
            gone = changed
    assert_same_bits("one task", make_task(build("label_drift", drift_tasks=1), 3).labels,
                     make_task(build("label_shuffle"), 3).labels)  # fmt: skip


def test_one_slow_bit_is_flipped_from_task_to_task_and_five_are_random():
    bits = load("bits")
    assert bits.images.shape == (2**20, 20)
    assert bits.images[0b1000_0000_0000_0000_0011].tolist() == [255] + [0] * 17 + [255] * 2
    problem = build("bit_flip", bits, examples=200, batch_size=1)
    found = tasks(problem, 12)
    flipped = set()
    for member, seed in enumerate(SEEDS):
        before = None
        for index, task in enumerate(found):
            inputs = task.inputs(torch.arange(200).expand(2, -1))[member]
            assert set(inputs.unique().tolist()) == {0.0, 1.0}
            slow = inputs[:, :15].unique(dim=0)
            assert slow.tolist() == [slow_bits(seed, index).tolist()]
            assert bool((inputs[:, 15:].mean(0) - 0.5).abs().max() < 4 * 0.5 / math.sqrt(200))
            if before is not None:
                assert int((slow != before).sum()) == 1
                flipped.add(int((slow != before).nonzero()[0, 1]))
            before = slow
    assert len(flipped) > 8


def test_the_target_of_bit_flipping_is_a_network_of_threshold_units():
    """Written out for one example at a time: thresholds of Dohare et al. 2024, output weights of 1 and -1."""
    from fastplast.seeding import words

    numbers = np.random.default_rng(0).integers(0, 2**20, 40)
    signs = [1 if word >> 63 else -1 for word in words(7, "problem", 2201, 0, 2).tolist()]
    values = []
    for number in numbers:
        bits, total = [int(c) for c in f"{number:020b}"], signs[2200]
        for unit in range(100):
            own = signs[21 * unit : 21 * unit + 21]
            threshold = 0.7 * 21 - own.count(-1)
            total += signs[2100 + unit] * (sum(w * x for w, x in zip(own, [*bits, 1])) > threshold)
        values.append(total)
    found = target(7, digits(numbers))
    assert found.tolist() == values
    assert found.std() > 0.5


def test_bit_flipping_presets_its_network_epochs_and_loss(tmp_path):
    e = Experiment(benchmark="bit_flip").resolved()
    assert (e.widths, e.epochs, e.batch_size, e.examples, e.loss) == ((5,), 1, 1, 10_000, "mse")
    assert Experiment(benchmark="bit_flip", widths=(7,)).resolved().widths == (7,)
    assert Experiment(benchmark="bit_flip", network="mlp13").resolved().widths is None
    assert Experiment().epochs == 200
    trained = fp.train(small(tmp_path / "run", benchmark="bit_flip", widths=None, examples=64, batch_size=4, epochs=2))
    metrics = trained.metrics()
    assert set(metrics.engine) == {"vmap"}
    assert metrics.hessian_srank[metrics.when == "start"].notna().all()
    assert metrics.online_loss.notna().sum() == 6


@pytest.mark.parametrize("srank", ["start", "off"])
def test_the_figure_that_a_run_on_numbers_suggests_can_be_drawn(srank, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    sizes = "--examples 16 --batch-size 8 --seeds 2 --tasks 2 --threads 1 --out run --srank"
    assert run(["train", "--benchmark", "bit_flip", *sizes.split(), srank]) == 0
    words = capsys.readouterr().out.split("Figure: fastplast ")[1].split()
    assert run([*words, "--formats", "svg"]) == 0
    drawn = (tmp_path / capsys.readouterr().out.split()[0]).read_text()
    assert "squared unit of labels" in drawn
    assert "nats" not in drawn
    assert run(["status", "run"]) == 0
    assert "error" not in capsys.readouterr().out
    assert run(["report", "run"]) == 0


@pytest.mark.parametrize("name", ["class_incremental", "five_plus_one", "warm_start", "noisy_chunks", "label_drift"])
def test_each_trains_and_a_short_run_is_the_beginning_of_a_long_one(name, tmp_path):
    tests = {} if name == "label_drift" else {"test_examples": 10}
    fields = {"benchmark": name, "dataset": "./own", "network": "mlp", "examples": 20, "batch_size": 8} | tests
    runs = []
    for count in (2, 3):
        e = small(tmp_path / str(count), **fields | {"tasks": count, "srank": "off"})
        fp.train(e, dataset=dataset())
        runs.append(table(tmp_path / str(count)))
    assert runs[0].equals(runs[1][runs[1].task < 2].reset_index(drop=True))
    assert ("test_error" in runs[0]) == (name != "label_drift")
    assert set(runs[0].benchmark) == {name}
