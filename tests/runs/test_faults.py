"""What happens to a run directory by a fault or by somebody's hand is noticed, said and, where it can be, mended."""

import contextlib
import io
import json
import os
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from small_runs import drain, small, table

import fastplast as fp
from fastplast.cli.main import run as command
from fastplast.config import ConfigError
from fastplast.config.errors import naming_flags
from fastplast.runs.archive import write_archive
from fastplast.runs.files import StoreError
from fastplast.runs.status import status
from fastplast.runs.writer import RunWriter
from fastplast.sweeps.sweep import read_ids
from fastplast.training import capacity
from fastplast.training.loop import EpochDone, Stopped, TaskDone
from fastplast.training.start import proceed, start

ALL = {"epoch_curves": True, "srank_method": "exact", "widths": (6, 5, 4), "examples": 32}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    return fp.train(small(tmp_path_factory.mktemp("faults") / "run", **ALL)).path


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def results(path) -> dict[str, bytes]:
    """The parts and the manifest of a run."""
    folders = ("metrics", "epochs", "spectra")
    files = [path / "manifest.jsonl", *(file for folder in folders for file in (path / folder).iterdir())]
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


PARTS = ["metrics/part-00001-end.parquet", "epochs/part-00001.parquet", "spectra/task-00001-start.npz"]


def read(path, part):
    run = fp.load(path)
    return {"metrics": run.metrics, "epochs": run.epochs, "spectra": lambda: run.spectra(1)}[part.split("/")[0]]()


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_missing_is_said_by_every_reader_and_made_again(copy, finished, part, capsys):
    (copy / part).unlink()
    with pytest.raises(StoreError, match=rf"{part}.* is (missing|not there)"):
        read(copy, part)
    if "metrics" in part:
        for words in (["export"], ["report"], ["plot"]):
            assert command([*words, str(copy)]) == 1
            assert f"{copy / part} is missing: 2 rows that were written. `fastplast resume" in capsys.readouterr().err
    with pytest.warns(UserWarning, match=rf"{part} is missing. The run is trained from its first task again"):
        fp.resume(copy)
    assert results(copy) == results(finished)
    assert fp.load(copy).is_finished


@pytest.mark.parametrize("part", PARTS)
def test_no_flipped_bit_gives_other_numbers(copy, finished, part):
    data, rng = (copy / part).read_bytes(), random.Random(0)
    for _ in range(30):
        at = rng.randrange(len(data))
        (copy / part).write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
        with pytest.raises(StoreError, match=rf"{part} is damaged: got .* `fastplast resume .* makes it again"):
            read(copy, part)
    with pytest.warns(UserWarning, match="from its first task again"):
        fp.resume(copy)
    assert results(copy) == results(finished)


def test_no_flipped_bit_of_an_exported_file_gives_other_numbers(finished, tmp_path):
    path = write_archive(fp.load(finished), tmp_path / "results.parquet")
    want, data, rng = fp.load(path).metrics("arrow"), path.read_bytes(), random.Random(0)
    assert pq.ParquetFile(path).read().num_rows == want.num_rows  # any other reader of Parquet opens it
    for _ in range(300):
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
        with contextlib.suppress(StoreError):
            assert fp.load(path).metrics("arrow").equals(want)


def test_a_manifest_that_is_cut_is_noticed_and_made_again(copy, finished):
    lines = (copy / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (copy / "manifest.jsonl").write_bytes(b"".join(lines[:-2]))
    with pytest.raises(StoreError, match=r"manifest.jsonl is missing or damaged. .* `fastplast resume"):
        fp.load(copy).metrics()
    with pytest.warns(UserWarning, match=r"manifest.jsonl is missing or damaged\. The run is trained from its first"):
        fp.resume(copy)
    assert results(copy) == results(finished)


def test_a_run_of_a_version_without_manifests_is_read_and_resumed(copy, finished):
    (copy / "manifest.jsonl").unlink()
    env = json.loads((copy / "env.json").read_text())
    del env["manifest"]
    (copy / "env.json").write_text(json.dumps(env))
    assert table(copy).equals(table(finished))
    fp.resume(copy)
    assert table(copy).equals(table(finished))

    assert results(copy) == results(finished)


@pytest.fixture
def stopped(tmp_path) -> Path:
    """A run that was stopped in its second task, after the first of two epochs."""
    answers = iter([False, False, True])
    _, events = start(small(tmp_path / "run", **ALL, checkpoint_minutes=1e-9), stop=lambda: next(answers))
    assert list(events)[-1] == Stopped(1, 1)
    return tmp_path / "run"


@pytest.mark.parametrize("lines", [0, 3])
def test_what_the_manifest_of_a_stopped_run_lost_is_written_anew(stopped, finished, lines):
    kept = (stopped / "manifest.jsonl").read_bytes().splitlines(keepends=True)[:lines]
    (stopped / "manifest.jsonl").write_bytes(b"".join(kept))
    (stopped / "metrics" / "part-00000-copy.parquet").write_bytes(b"no part of the run")
    _, events = proceed(stopped)
    assert next(event for event in events if isinstance(event, EpochDone)).task == 1
    drain(events)
    (stopped / "metrics" / "part-00000-copy.parquet").unlink()
    assert results(stopped) == results(finished)


def test_what_was_measured_at_the_start_of_a_task_that_goes_on_is_checked(stopped, finished):
    (stopped / "spectra" / "task-00001-start.npz").write_bytes(b"other")
    with pytest.warns(UserWarning, match=r"task-00001-start.npz is damaged: .* from its first task again"):
        fp.resume(stopped)
    assert results(stopped) == results(finished)


def test_a_part_without_a_line_that_cannot_be_read_is_made_again(stopped, finished):
    (stopped / "manifest.jsonl").write_bytes(b"")
    (stopped / "metrics" / "part-00000-end.parquet").write_bytes(b"PAR1")
    with pytest.warns(UserWarning, match=r"part-00000-end.parquet is missing or damaged .* from its first task again"):
        fp.resume(stopped)
    assert results(stopped) == results(finished)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("optimizer", True, "config.json: --optimizer must be a known name: got True"),
        ("metrics", [[]], "config.json: --metrics must be a known name: got []"),
        ("member_list", True, "config.json is missing or damaged"),
        ("member_list", [3], "config.json is missing or damaged"),
        ("own", {"method": 3}, "config.json is missing or damaged"),
    ],
)
def test_a_stored_configuration_of_other_types_is_an_error_that_names_it(copy, field, value, message):
    config = json.loads((copy / "config.json").read_text()) | {field: value}
    (copy / "config.json").write_text(json.dumps(config))
    for read in (fp.resume, status):
        with naming_flags(), pytest.raises((StoreError, ConfigError), match=re.escape(message)):
            read(copy)


def test_the_checkpoint_before_is_used_where_the_last_is_damaged(finished, tmp_path):
    _, events = start(small(tmp_path / "run", **ALL, checkpoint_minutes=1e-9))
    drain(events, 2, TaskDone)
    events.close()
    (state,) = (tmp_path / "run" / "checkpoint").glob("*.safetensors")
    state.write_bytes(state.read_bytes()[:-1])
    _, events = proceed(tmp_path / "run")
    with pytest.warns(UserWarning, match=r"is damaged: .* The checkpoint before it is whole and is used\."):
        first = next(event for event in events if isinstance(event, EpochDone))
    assert (first.task, first.epoch) == (1, 1)
    drain(events)
    assert results(tmp_path / "run") == results(finished)
    assert not (tmp_path / "run" / "previous_checkpoint").exists()


def test_the_checkpoint_before_is_used_where_the_position_of_the_last_is_another(stopped, finished):
    path = stopped / "checkpoint" / "checkpoint.json"
    path.write_text(path.read_text().replace('"task": 1', '"task": 0'))
    with pytest.warns(UserWarning, match=r"checkpoint.json .* The checkpoint before it is whole and is used\."):
        fp.resume(stopped)
    assert results(stopped) == results(finished)


def test_a_checkpoint_without_a_good_one_before_is_an_error(copy):
    (state,) = (copy / "checkpoint").glob("*.safetensors")
    state.unlink()
    with pytest.raises(StoreError, match=r"is damaged: got no file, .* remove .* to train the run from its first"):
        fp.resume(copy)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"task": 10**9}, "task 1000000000, epoch 0 of 3 tasks"),
        ({"task": -1}, "task -1"),
        ({"task": 1, "epoch": 2}, "epoch 2 of 3 tasks of 2 epochs"),
        ({"task": "1"}, "task '1'"),
        ({}, "task None"),
    ],
)
def test_a_checkpoint_of_no_task_of_the_run_is_refused(copy, change, text):
    path = copy / "checkpoint" / "checkpoint.json"
    entry = json.loads(path.read_text())
    del entry["entry_sha256"]  # by somebody's hand, as earlier versions wrote none
    entry["position"] = {"epoch": 0} | change
    path.write_text(json.dumps(entry))
    with pytest.raises(StoreError, match=rf"must be of this run: got .*{text}"):
        fp.resume(copy)


def test_a_checkpoint_of_other_tensors_is_refused(copy):
    with RunWriter.open(copy) as writer:
        found, position = writer.load_checkpoint()
        writer.save_checkpoint({**found, "state.params": found["state.params"][:1]}, position)
    with pytest.raises(StoreError, match=r"must be of this run: got state.params of \[1, .*, not \[2, "):
        fp.resume(copy)


@pytest.mark.parametrize("left", ["env", "temporary", "lock", "all"])
def test_what_a_killed_start_left_is_taken_over(left, tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    if left in ("env", "all"):
        (path / "env.json").write_text('{"schema_version": 1, "finished": false}')
    if left in ("temporary", "all"):
        (path / ".config.json.4711.tmp").write_text("{")
    if left in ("lock", "all"):
        (path / ".lock").write_text("process 4711")
    assert fp.train(small(path, tasks=1)).is_finished
    assert not list(path.rglob("*.tmp"))


def test_other_files_than_those_a_kill_leaves_are_somebodys(tmp_path):
    for name, text in (("env.json", '{"PATH": "/bin"}'), ("notes.tmp", ""), (".a.tmp", "")):
        (tmp_path / name).write_text(text)
        with pytest.raises(FileExistsError, match="which holds files"):
            fp.train(small(tmp_path))
        assert (tmp_path / name).read_text() == text
        (tmp_path / name).unlink()


def replaced(path):
    shutil.move(path, path.with_name("moved"))
    RunWriter.create(path, {"other": 1}).close()


def contents(path) -> dict[Path, bytes]:
    """All files but locks, whose text goes with their process."""
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != ".lock"}


HAPPENINGS = {
    "moved": lambda path: shutil.move(path, path.with_name("moved")),
    "removed": shutil.rmtree,
    "replaced": replaced,
    "without its lock": lambda path: (path / ".lock").unlink(),
    "lock replaced": lambda path: ((path / ".lock").unlink(), (path / ".lock").touch()),
}


@pytest.mark.parametrize("what", HAPPENINGS)
def test_a_directory_that_is_no_longer_the_runs_is_noticed_at_the_next_write(what, tmp_path):
    path = tmp_path / "run"
    _, events = start(small(path))
    drain(events, 1, TaskDone)
    HAPPENINGS[what](path)
    before = contents(tmp_path)
    with pytest.raises(StoreError, match=rf"{path} is no longer the directory that this process writes"):
        drain(events)
    assert contents(tmp_path) == before


def test_files_of_others_in_a_checkpoint_directory_stay(copy, tmp_path):
    (copy / "checkpoint" / "thesis.tex").write_text("mine")
    with RunWriter.open(copy) as writer:
        writer.save_checkpoint({"w": torch.zeros(1)}, {})
    assert (copy / "checkpoint" / "thesis.tex").read_text() == "mine"
    shutil.move(copy / "checkpoint", tmp_path / "elsewhere")
    (copy / "checkpoint").symlink_to(tmp_path / "elsewhere")
    with RunWriter.open(copy) as writer, pytest.raises(StoreError, match="must be a directory of its run, and no link"):
        writer.save_checkpoint({"w": torch.zeros(1)}, {})


def every_reader(path):
    run = fp.load(path)
    calls = [run.metrics, run.epochs, lambda: run.spectra(0), lambda: run.members, run.timings, lambda: run.definitions]
    calls += [lambda: run.identity, lambda: status(path), lambda: RunWriter.open(path).load_checkpoint()]
    for call in calls:
        try:
            call()
        except (StoreError, ValueError):
            yield


CONTENTS = [b"", b"[]", b"{}", b"[" * 100_000, b"\xff\xfe", b"9" * 5000, b"PAR1" * 3]
KINDS = [
    "config.json",
    "env.json",
    "progress.json",
    "manifest.jsonl",
    "timings.jsonl",
    "metrics/definitions.json",
    "checkpoint/checkpoint.json",
    "checkpoint/state-1.safetensors",
    *PARTS,
    "metrics/part-00002-end.parquet",
]


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_any_content_is_the_documented_error(copy, name):
    path = copy / name
    before = path.read_bytes()
    rng = random.Random(path.name)
    cut = [before[: rng.randrange(len(before))]]
    wrong = [rng.randbytes(len(before)), json.dumps({"schema_version": 1, "finished": "yes"}).encode()]
    for content in [*CONTENTS, *cut, *wrong]:
        path.write_bytes(content)
        with contextlib.suppress(OSError, ValueError):  # of ``fp.load`` itself
            list(every_reader(copy))
    path.write_bytes(before)


@pytest.mark.parametrize(("name", "value"), [("tasks", None), ("tasks", "3"), ("network", None), ("benchmark", 3)])
def test_a_configuration_that_lacks_a_field_is_said_on_resume(copy, name, value):
    config = json.loads((copy / "config.json").read_text()) | {name: value}
    if value is None:
        del config[name]
    (copy / "config.json").write_text(json.dumps(config))
    for changes in ({}, {"tasks": 4}):
        with pytest.raises(StoreError, match=rf"config\.json is missing or damaged .*{name}"):
            fp.resume(copy, **changes)


@pytest.mark.parametrize("other", [None, "sedds"])
def test_a_configuration_without_a_field_that_every_version_stores_is_damaged_and_not_changed(copy, other):
    stored = json.loads((copy / "config.json").read_text())
    fields = ("seeds", "learning_rate", "method", "epochs", "examples", "widths", "optimizer", "weight_decay")
    for name in fields:
        config = {key: value for key, value in stored.items() if key != name}
        (copy / "config.json").write_text(json.dumps(config | ({other: stored[name]} if other else {})))
        for read in (fp.resume, status, read_ids):
            with pytest.raises(StoreError, match=rf"config\.json is missing or damaged \(it lacks {name}\)\. Restore"):
                read(fp.load(copy) if read is read_ids else copy)


def test_a_pipe_in_place_of_a_file_is_an_error(copy):
    for name in ("config.json", "env.json", "manifest.jsonl", "metrics/part-00000-end.parquet", "progress.json",
                 "checkpoint/checkpoint.json", "timings.jsonl", "spectra/task-00000-start.npz"):  # fmt: skip
        before = (copy / name).read_bytes()
        (copy / name).unlink()
        os.mkfifo(copy / name)
        with contextlib.suppress(OSError, ValueError):
            list(every_reader(copy))
        (copy / name).unlink()
        (copy / name).write_bytes(before)


def test_a_state_is_no_path_elsewhere(copy):
    path = copy / "checkpoint" / "checkpoint.json"
    entry = json.loads(path.read_text()) | {"file": "../../../proc/kmsg"}
    del entry["entry_sha256"]
    path.write_text(json.dumps(entry))
    with pytest.raises(StoreError, match=r"file must be the name of a state: got '\.\./\.\./\.\./proc/kmsg'"):
        fp.resume(copy)


def test_spectra_that_claim_more_than_they_hold_are_refused(copy):
    buffer = io.BytesIO()
    np.savez(buffer, eigenvalues=np.zeros(3, np.float32), offsets=np.array([0, 10**12]))
    (copy / "spectra" / "task-00007-start.npz").write_bytes(buffer.getvalue())
    with pytest.raises(StoreError, match=r"task-00007-start\.npz is damaged: its offsets are not those"):
        fp.load(copy).spectra(7)


def test_an_experiment_that_no_machine_holds_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    with pytest.raises(fp.ConfigError, match=r"the networks must fit in memory: 2 members of .* GiB, and this machine"):
        fp.train(small(tmp_path / "run", widths=(10**9, 10), srank="off"))
    monkeypatch.setattr(capacity, "all_bytes", lambda: 1 << 20)
    with pytest.raises(fp.ConfigError, match=r"rows of every member's examples must fit in memory: 900,000 members"):
        fp.train(small(tmp_path / "run", seeds=900_000))
    assert not (tmp_path / "run").exists()
