"""A whole experiment, small: what is stored, and that no stop or kill changes a bit of it."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from small_runs import SMALL, drain, small, table

import fastplast as fp
from fastplast.engines import pull_of
from fastplast.measuring.group import measure_group
from fastplast.problems import make_task
from fastplast.training import loop
from fastplast.training.loop import EpochDone, Stopped, TaskDone, TaskStarted
from fastplast.training.setup import prepare
from fastplast.training.start import proceed, start


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return fp.train(small(tmp_path_factory.mktemp("run") / "a"))


def test_a_run_has_a_row_for_every_member_task_and_time(finished):
    metrics = finished.metrics()
    assert len(metrics) == 2 * 3 * 2
    assert set(zip(metrics.member, metrics.task, metrics.when)) == {
        (m, k, w) for m in range(2) for k in range(3) for w in ("start", "end")
    }
    assert finished.is_finished


def test_every_hyperparameter_is_a_column(finished):
    columns = set(finished.metrics().columns)
    assert columns >= {"seed", "learning_rate", "method", "strength", "reduction", "benchmark", "network", "activation"}
    assert columns >= {
        "optimizer",
        "init",
        "label_shuffle",
        "pixel_range",
        "subset",
        "epochs",
        "examples",
        "batch_size",
    }


def test_every_metric_has_a_definition(finished):
    metrics = finished.metrics()
    about = {
        "member",
        "seed",
        "task",
        "when",
        "updates",
        "diverged",
        "diverged_step",
        "dataset",
        "data_source",
        "engine",
    }
    about |= set(fp.Experiment.__dataclass_fields__)
    known = finished.definitions
    for column in set(metrics.columns) - about:
        layer = column.rsplit("_", 1)[-1]
        assert column in known or column.replace(layer, "{layer}") in known, column


def test_the_stored_configuration_is_a_configuration(finished):
    again = fp.Experiment.from_dict(finished.config)
    assert again.resolved() == again
    assert (again.tasks, again.network, again.seeds) == (3, "mlp", 2)


def test_srank_is_measured_at_task_start_and_spectra_are_stored(finished):
    metrics = finished.metrics()
    assert metrics[metrics.when == "start"].hessian_srank.notna().all()
    assert metrics[metrics.when == "end"].hessian_srank.isna().all()
    for srank, values in zip(metrics[(metrics.task == 1) & (metrics.when == "start")].hessian_srank,
                             finished.spectra(1, "start")):  # fmt: skip
        descending = np.sort(np.abs(values.astype(np.float64)))[::-1].cumsum()
        assert (descending <= 0.99 * descending[-1]).sum() + 1 == pytest.approx(srank, abs=1)


def test_training_learns(finished):
    metrics = finished.metrics()
    first = metrics[metrics.task == 0]
    assert first[first.when == "end"].loss.mean() < first[first.when == "start"].loss.mean()


def test_a_run_is_a_prefix_of_a_longer_one(finished, tmp_path):
    short = fp.train(small(tmp_path / "short", tasks=2))
    first = finished.metrics().query("task < 2").reset_index(drop=True)
    pd.testing.assert_frame_equal(short.metrics(), first, check_exact=True)


def test_cheap_runs_measure_less(tmp_path):
    run = fp.train(small(tmp_path / "cheap", srank="off", probe_every=2))
    metrics = run.metrics()
    assert "hessian_srank" not in metrics
    assert metrics[metrics.task == 1].weight_srank_fc1.isna().all()
    assert metrics[metrics.task == 1].feature_srank_fc1.isna().all()
    assert metrics[metrics.task == 2].feature_srank_fc1.notna().all()
    assert metrics[(metrics.task == 2) & (metrics.when == "end")].weight_srank_fc1.notna().all()
    assert metrics.error.notna().all()


def test_every_srank_method_brackets_the_exact_rank(tmp_path):
    tables = {m: table(fp.train(small(tmp_path / m, srank_method=m)).path) for m in ("exact", "auto", "truncated")}
    exact = tables["exact"][tables["exact"].when == "start"]
    assert set(exact.hessian_method) == {"exact"}
    for metrics in tables.values():
        start = metrics[metrics.when == "start"]
        assert (start.hessian_srank_lo.values <= exact.hessian_srank.values).all()
        assert (exact.hessian_srank.values <= start.hessian_srank_hi.values).all()
        assert (start.hessian_depth <= start.hessian_dimension).all()
        errors = start[["hessian_trace_error", "hessian_frobenius_error", "hessian_assembly_error"]]
        assert (errors.to_numpy() < 1e-9).all()


def test_the_rank_expected_is_the_one_last_measured_even_after_a_restart(tmp_path, monkeypatch):
    from fastplast.training import loop as trainer

    seen = []

    def spy(*arguments, **options):
        seen.append(options["expected"].tolist())
        return measure_group(*arguments, **options)

    monkeypatch.setattr(trainer, "measure_group", spy)
    path = tmp_path / "cut"
    _, events = start(small(path, srank="both"))
    drain(events, 2, EpochDone)  # task 0 is trained, not yet measured nor stored
    del events
    _, events = proceed(path)
    drain(events)
    rows = fp.load(path).metrics().sort_values(["task", "member"])
    measured = {
        when: [part.hessian_srank.tolist() for _, part in rows[rows.when == when].groupby("task")]
        for when in ("start", "end")
    }
    nothing = [-1, -1]
    assert seen[:3] == [nothing, nothing, nothing]  # start of task 0, twice, and its end
    assert seen[3:] == [measured["start"][0], measured["end"][0], measured["start"][1], measured["end"][1]]


def test_epochs_of_one_call_leave_the_same_files_as_calls_of_their_own(tmp_path, monkeypatch):
    left, calls = {}, {}
    for seconds in (0.0, 60.0):
        monkeypatch.setattr(loop, "_CALL_SECONDS", seconds)
        path = tmp_path / str(seconds)
        setup, events = start(small(path, epochs=5, epoch_curves=True))
        run_epochs, calls[seconds] = setup.engine.run_epochs, []
        setup.engine.run_epochs = lambda *given, f=run_epochs, to=calls[seconds]: to.append(len(given[2])) or f(*given)
        told = [event for event in events if isinstance(event, EpochDone)]
        assert [(event.task, event.epoch) for event in told] == [
            (task, epoch) for task in range(3) for epoch in range(5)
        ]
        assert all(a.seconds < b.seconds for a, b in pairwise(told) if a.task == b.task)
        left[seconds] = {file.relative_to(path): file.read_bytes() for file in path.glob("*/*.parquet")}
        assert {file.parent.name for file in left[seconds]} >= {"metrics", "epochs"}
        left[seconds] |= {"events": [(event.updates, event.loss, event.error, event.diverged) for event in told]}
    assert calls == {0.0: [1] * 15, 60.0: [1, 4] * 3}
    assert left[0.0] == left[60.0]


def test_seconds_of_every_member_are_beside_the_metrics(finished):
    times = finished.timings()
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in times.hessian_seconds_start)
    assert "hessian_seconds_end" not in times


def test_srank_both_measures_the_end_too(tmp_path):
    metrics = fp.train(small(tmp_path / "both", tasks=1, srank="both", srank_every=1)).metrics()
    assert metrics.hessian_srank.notna().all()


@pytest.mark.parametrize("events", [1, 3, 4])
def test_a_stopped_run_resumes_to_the_same_bits(finished, tmp_path, events):
    seen = 0

    def stop():
        nonlocal seen
        seen += 1
        return seen == events

    _, iterator = start(small(tmp_path / "b"), stop=stop)
    last = list(iterator)[-1]
    assert isinstance(last, Stopped)
    assert position(tmp_path / "b") == {"task": last.task, "epoch": last.epoch}
    fp.resume(tmp_path / "b")
    pd.testing.assert_frame_equal(table(tmp_path / "b"), table(finished.path), check_exact=True)


@pytest.mark.parametrize(("kind", "count"), [(TaskStarted, 1), (EpochDone, 3), (TaskDone, 1), (TaskStarted, 3)])
def test_a_run_that_dies_anywhere_resumes_to_the_same_bits(finished, tmp_path, kind, count):
    setup, events = start(small(tmp_path / "b", checkpoint_minutes=1e-9))
    drain(events, count, kind)
    events.close()
    del setup
    fp.resume(tmp_path / "b")
    left = table(tmp_path / "b")
    pd.testing.assert_frame_equal(left, table(finished.path), check_exact=True)


def test_a_run_killed_by_the_system_resumes_to_the_same_bits(finished, tmp_path):
    code = (
        "import fastplast as fp, sys\nfrom fastplast.training.start import start\n"
        f"s, events = start(fp.Experiment(out=sys.argv[1], benchmark='mnist_shuffle', seeds=2, **{SMALL!r}))\n"
        "for e in events: print(type(e).__name__, flush=True)"
    )
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "b")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "TaskDone":
            time.sleep(0.02)
            os.kill(child.pid, signal.SIGKILL)
            break
    child.wait()
    child.stdout.close()
    fp.resume(tmp_path / "b")
    pd.testing.assert_frame_equal(table(tmp_path / "b"), table(finished.path), check_exact=True)


def test_checkpoints_are_as_old_as_asked_for_and_a_kill_loses_no_more(finished, tmp_path):
    """Tasks that are trained again after a kill are the same bits, and nothing of them is there twice."""
    path = tmp_path / "b"
    _, events = start(small(path))  # a run of seconds: none is due
    drain(events, 2, TaskDone)
    events.close()
    assert position(path) == {"task": 0, "epoch": 0}
    assert len(table(path)) == 2 * 2 * 2
    fp.resume(path)
    assert position(path) == {"task": 3, "epoch": 0}
    pd.testing.assert_frame_equal(table(path), table(finished.path), check_exact=True)
    assert (path / "timings.jsonl").read_text().count("\n") == 2 + 3
    assert fp.load(path).timings().task.tolist() == [0, 1, 2]

    _, events = start(small(tmp_path / "c", checkpoint_minutes=1e-9))
    drain(events, 2, TaskDone)
    assert position(tmp_path / "c") == {"task": 2, "epoch": 0}


def position(path):
    return json.loads((path / "checkpoint" / "checkpoint.json").read_text())["position"]


def test_a_finished_run_resumes_to_itself(finished, tmp_path):
    fp.train(small(tmp_path / "b", tasks=1))
    before = table(tmp_path / "b")
    fp.resume(tmp_path / "b")
    pd.testing.assert_frame_equal(table(tmp_path / "b"), before, check_exact=True)


def test_resuming_with_another_configuration_names_the_difference(tmp_path):
    fp.train(small(tmp_path / "b", tasks=1))
    with pytest.raises(ValueError, match=r"epochs: 2 -> 7"):
        proceed(tmp_path / "b", epochs=7)


def test_curves_of_epochs_are_stored_on_request_and_outlive_a_kill(finished, tmp_path):
    with pytest.raises(OSError, match="holds no curves of epochs"):
        finished.epochs()
    whole = fp.train(small(tmp_path / "a", epoch_curves=True)).epochs()
    assert len(whole) == 2 * 3 * 2
    metrics = finished.metrics().query("when == 'end'").reset_index(drop=True)
    means = whole.groupby(["task", "member"]).online_loss.mean().reset_index(drop=True)
    np.testing.assert_allclose(means, metrics.online_loss, rtol=1e-12)
    _, events = start(small(tmp_path / "b", epoch_curves=True, checkpoint_minutes=1e-9))
    drain(events, 4)
    events.close()
    pd.testing.assert_frame_equal(fp.resume(tmp_path / "b").epochs(), whole, check_exact=True)


def test_an_existing_run_is_never_written_into(finished):
    with pytest.raises(FileExistsError, match="resume"):
        fp.train(small(finished.path))


def test_a_diverged_member_is_flagged_and_the_others_keep_their_bits(finished, tmp_path):
    run = fp.train(small(tmp_path / "b", learning_rate=(1e-3, 1e30)))
    metrics = run.metrics()
    wild = metrics[metrics.learning_rate == 1e30]
    assert wild[(wild.when == "end")].diverged.all()
    assert wild[(wild.when == "end")].diverged_step.notna().all()
    calm = fp.train(small(tmp_path / "c", learning_rate=(1e-3, 1e-4))).metrics()
    keep = ["error", "loss", "weight_norm_l2", "hessian_srank", "hessian_sharpness", "online_loss"]
    ours, theirs = (m[m.learning_rate == 1e-3].reset_index()[keep] for m in (metrics, calm))
    pd.testing.assert_frame_equal(ours, theirs, check_exact=True)


def own_network() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(784, 12), torch.nn.LayerNorm(12), torch.nn.GELU(), torch.nn.Linear(12, 10)
    )


def test_a_module_of_ones_own_trains_and_is_measured(tmp_path):
    experiment = small(tmp_path / "own", tasks=1, epochs=6, widths=None, srank="off")
    run = fp.train(experiment, network=own_network)
    metrics = run.metrics()
    assert metrics[metrics.when == "end"].loss.mean() < metrics[metrics.when == "start"].loss.mean()
    assert metrics.feature_srank_last.notna().all()
    with pytest.raises(fp.ConfigError, match="network=") as error:
        fp.resume(run.path)
    assert "module:" in str(error.value)
    fp.resume(run.path, network=own_network)


def tanh_module() -> torch.nn.Module:
    sizes, layers = (784, 7, 6, 10), [torch.nn.Flatten()]
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        layers += [torch.nn.Tanh()] * (i > 0) + [torch.nn.Linear(inputs, outputs)]
    return torch.nn.Sequential(*layers)


def test_a_module_measures_as_the_same_built_in_network(tmp_path):
    same = small(tmp_path, widths=(7, 6), activation="tanh")
    built_in, own = prepare(same), prepare(same, tanh_module)
    own.state.params.copy_(built_in.state.params)
    both = []
    for setup in (built_in, own):
        task = make_task(setup.problem, 0)
        pull = pull_of(setup.group, setup.state)
        both.append(measure_group(setup.group, setup.state, task, pull, with_probes=False, with_hessian=True).columns)
    assert both[0]["hessian_srank"] == both[1]["hessian_srank"]
    for name in ("loss", "error", "hessian_sharpness", "hessian_nuclear_norm", "hessian_trace", "hessian_overlap"):
        assert both[0][name] == pytest.approx(both[1][name], rel=1e-9), name


def test_too_large_a_hessian_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(fp.ConfigError, match="--srank off"):
        fp.train(small(tmp_path / "b", widths=(400, 300)))
    assert not (tmp_path / "b").exists()
