"""What ``fastplast status`` says of runs and sweeps, at any moment of theirs."""

import fcntl
import json
import os
import subprocess
import sys
import threading
import time

import pytest
from small_runs import SMALL, small

import fastplast as fp
from fastplast.cli.main import run
from fastplast.progress import _Tally
from fastplast.runs.files import take_lock
from fastplast.runs.status import Status, lock_holder, status
from fastplast.runs.status_text import as_text
from fastplast.training.loop import EpochDone, TaskDone
from fastplast.training.start import start
from fastplast.training.timing import Timing


def of_run(path) -> Status:
    found = status(path)
    assert isinstance(found, Status)
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return fp.train(small(tmp_path_factory.mktemp("status") / "run"))


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    out = tmp_path_factory.mktemp("status") / "sweep"
    return fp.sweep(
        {"activation": ["relu", "tanh"], **SMALL, "seeds": 2, "tasks": 2, "widths": [[12, 10, 8]], "srank": "off"}, out
    )


def test_a_finished_run_is_described_by_its_last_measurements(finished):
    found, metrics = of_run(finished.path), finished.metrics()
    assert (found.state, found.holder, found.members, found.diverged) == ("finished", None, 2, 0)
    assert (found.task, found.tasks, found.epoch, found.share, found.seconds_left) == (2, 3, 2, 1.0, 0.0)
    assert found.error == pytest.approx(metrics.query("task == 2 and when == 'end'").error.mean())
    assert found.srank == pytest.approx(metrics.query("task == 2 and when == 'start'").hessian_srank.median())
    assert (found.error_task, found.srank_task) == (2, 2)
    assert found.bytes == sum(p.stat().st_size for p in finished.path.rglob("*") if p.is_file())
    assert found.rate == pytest.approx(2 * 12 / finished.timings().train_seconds.median())


@pytest.mark.parametrize("tell_seconds", [0.0, 1000.0])
def test_a_run_in_training_answers_at_every_event_and_goes_forward(tmp_path, monkeypatch, tell_seconds):
    monkeypatch.setattr("fastplast.training.loop._REPORT_SECONDS", tell_seconds)
    _, events = start(small(tmp_path / "run"))
    shares = []
    for event in events:
        found = of_run(tmp_path / "run")
        shares.append(found.share)
        if isinstance(event, TaskDone) and event.task < 2:
            assert found.state == "training"
            assert found.holder is not None
            assert str(os.getpid()) in found.holder
            assert found.task == event.task + 1
            assert found.seconds_left is not None
    assert shares == sorted(shares)
    assert of_run(tmp_path / "run").state == "finished"


def test_progress_within_a_task_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("fastplast.training.loop._REPORT_SECONDS", 0.0)
    _, events = start(small(tmp_path / "run"))
    for event in events:
        if isinstance(event, EpochDone):
            found = of_run(tmp_path / "run")
            assert (found.task, found.epoch) == (event.task, event.epoch + 1)
            assert found.rate is not None
            assert found.rate > 0
            assert found.seconds_left is not None


def test_the_first_epoch_of_a_process_in_which_kernels_are_compiled_is_left_out_of_the_rate(tmp_path, monkeypatch):
    setup, events = start(small(tmp_path / "run"))
    tally, per_epoch = _Tally(setup), setup.experiment.steps_per_epoch()
    tally.count(EpochDone(0, 0, per_epoch, 1.0, 0.5, 0, seconds=60.0))
    assert "updates/s" not in tally.describe()
    tally.count(EpochDone(0, 1, 2 * per_epoch, 1.0, 0.5, 0, seconds=62.0))
    assert tally.rate == per_epoch * 2 / 2.0
    assert f"{tally.rate:,.0f} updates/s" in tally.describe()
    assert tally.describe(is_live=True).endswith(
        f" left  {tally.rate:,.0f} updates/s"
    )  # a narrow terminal cuts the end
    tally.count(TaskDone(0, {}, 0, train_seconds=62.0, measure_seconds=1.0))
    assert tally.rate == per_epoch * 2 / 2.0
    events.close()
    monkeypatch.setattr(Timing, "training", 62.0)
    assert Timing(epochs=1, first=62.0).rate == 1 / 62
    assert Timing(epochs=3, first=60.0).rate == 1.0
    assert Timing(epochs=31).rate == 0.5


def test_a_run_whose_process_is_gone_has_died_and_stands_at_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr("fastplast.training.loop._REPORT_SECONDS", 0.0)
    for minutes, task in ((1e-9, 1), (5.0, 0)):
        path = tmp_path / str(minutes)
        _, events = start(small(path, checkpoint_minutes=minutes))
        for event in events:
            if isinstance(event, EpochDone) and event.task == 1:
                break
        events.close()
        found = of_run(path)
        assert (found.state, found.holder, found.task, found.epoch) == ("died", None, task, 0)


@pytest.mark.parametrize("after", [1, 2])
def test_a_run_that_was_stopped_says_so_until_it_goes_on(tmp_path, after, capsys):
    asked = iter([False] * (after - 1) + [True])
    _, events = start(small(tmp_path / "run"), stop=lambda: next(asked))
    for _ in events:
        pass
    found = of_run(tmp_path / "run")
    assert (found.state, found.task, found.epoch) == ("stopped", *divmod(after, 2))
    assert run(["status", str(tmp_path / "run")]) == 0
    assert f"fastplast resume {tmp_path / 'run'}" in capsys.readouterr().out
    fp.resume(tmp_path / "run")
    assert of_run(tmp_path / "run").state == "finished"


def test_looking_changes_no_file(finished):
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in finished.path.rglob("*") if p.is_file()}
    status(finished.path)
    assert before == {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in finished.path.rglob("*") if p.is_file()}


def test_a_writer_that_starts_while_somebody_looks_only_waits(finished):
    with open(finished.path / ".lock") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Thread(target=lambda: (time.sleep(0.2), fcntl.flock(file, fcntl.LOCK_UN))).start()
        lock = take_lock(finished.path)
    assert lock_holder(finished.path) is not None
    os.close(lock)
    assert lock_holder(finished.path) is None


def test_files_in_the_making_are_not_read(tmp_path):
    _, events = start(small(tmp_path / "run"))
    next(events)
    (tmp_path / "run" / "metrics" / ".part-00000-end.parquet.1.tmp").write_bytes(b"half")
    assert of_run(tmp_path / "run").error is None
    events.close()


def test_members_that_diverged_are_counted(tmp_path):
    fields = {"optimizer": "sgd", "learning_rate": (1e-3, 1e30), "srank": "off", "tasks": 2}
    fp.train(small(tmp_path / "run", **fields))
    assert of_run(tmp_path / "run").diverged == 2


def test_a_sweep_has_a_line_per_shard_and_a_total(swept, capsys):
    assert run(["status", str(swept.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [shard.path.name for shard in swept.shards]
    assert lines[3].split()[:3] == ["total", "4", "4/4"]
    assert "2 shards: 2 finished" in lines[4]


def test_a_table_of_shards_leaves_out_columns_until_it_fits_a_terminal(swept):
    found, path = status(swept.path), str(swept.path)
    header = ["shard", "state", "members", "task", "error", "srank", "diverged", "left", "disk"]
    whole = as_text(found, path).splitlines()
    width = max(map(len, whole[:-1]))
    for bound, left_out in ((None, ""), (width, ""), (width - 1, "srank"), (1, "srank left disk members")):
        table = as_text(found, path, bound).splitlines()  # of which no stable rank was measured, and no time is left
        assert table[0].split() == [name for name in header if name not in left_out.split()]
        assert len(table) == len(whole)


def test_json_holds_the_same(finished, swept, capsys):
    assert run(["status", str(finished.path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "finished"
    assert run(["status", str(swept.path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [shard["members"] for shard in found["shards"]] == [2, 2]
    assert found["total"]["states"] == {"finished": 2}
    assert found["total"]["error"] == pytest.approx(swept.metrics().query("task == 1 and when == 'end'").error.mean())


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere", "which does not exist"),
        ("file", "a file. Give the directory"),
        ("above", "Runs in it: .*above/run"),
        ("other", "which holds notes.txt"),
        ("empty", "which is empty"),
    ],
)
def test_what_is_no_run_is_told_with_what_is_there(tmp_path, finished, place, message):
    (tmp_path / "above").mkdir()
    (tmp_path / "above" / "run").symlink_to(finished.path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match=rf"path must be a run or a sweep: got {tmp_path / place}.*{message}"):
        status(tmp_path / place)


def test_a_directory_that_is_just_becoming_a_run_says_so(tmp_path):
    lock = take_lock(tmp_path)
    with pytest.raises(FileNotFoundError, match="just making one"):
        status(tmp_path)
    os.close(lock)


def test_looking_does_not_import_torch(finished):
    code = f"import sys\nfrom fastplast.cli.main import run\nrun(['status', {str(finished.path)!r}])\n"
    code += "assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
