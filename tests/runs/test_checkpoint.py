import contextlib
import errno
import json
import os
import resource
import subprocess
import sys
import tracemalloc

import pytest
import safetensors.torch
import torch

from fastplast.runs import files as run_files
from fastplast.runs.files import StoreError, write_file
from fastplast.runs.run import Run
from fastplast.runs.writer import RunWriter

CONFIG = {"benchmark": "mnist_shuffle", "seeds": 3}
MEMBER = {"member": [0], "seed": [0], "updates": [0], "error": [0.5]}

# A child process saves checkpoints and is killed; the parent looks at what is left, again and again. Checkpoint n holds
# tensors full of n. First the child dies at its k-th call that touches the disk, for every k; then at random times.
# One thread: a child that is forked from several may never wake up.
KILLED = """
import os, random, signal, sys, time
import torch
from fastplast.runs.writer import RunWriter

torch.set_num_threads(1)
path = sys.argv[1]

def save(writer, n):
    writer.save_checkpoint({"w": torch.full((300_000,), float(n)), "step": torch.tensor(n)}, {"n": n})

def saved():
    with RunWriter.open(path) as writer:  # the lock died with the child
        tensors, position = writer.load_checkpoint()
    assert (tensors["w"] == position["n"]).all() and tensors["step"] == position["n"], position
    assert len(os.listdir(f"{path}/checkpoint")) <= 4, os.listdir(f"{path}/checkpoint")
    return position["n"]

def child(body):
    pid = os.fork()
    if pid == 0:
        try:
            body(RunWriter.open(path))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return pid

def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def die_at_call(k):
    calls = 0
    def dying(function):
        def wrapped(*args, **options):
            nonlocal calls
            calls += 1
            if calls > k:
                os._exit(9)
            return function(*args, **options)
        return wrapped
    for name in ("replace", "fsync", "unlink"):
        setattr(os, name, dying(getattr(os, name)))

with RunWriter.create(path, {}) as writer:
    save(writer, 0)
n, outcomes = 0, []
for k in range(40):
    def once(writer):
        die_at_call(k)
        save(writer, n + 1)
    code, before, n = status(child(once)), n, saved()
    outcomes.append((code, n - before))
    if code == 0:
        break
assert set(outcomes) == {(9, 0), (9, 1), (0, 1)}, outcomes

def forever(writer):
    for m in range(n + 1, 1_000_000):
        save(writer, m)

for _ in range(20):
    pid = child(forever)
    time.sleep(random.uniform(0.02, 0.12))
    os.kill(pid, signal.SIGKILL)
    code, before, n = status(pid), n, saved()
    assert code == -signal.SIGKILL and n >= before, (code, before, n)
"""


@pytest.fixture
def writer(tmp_path):
    with RunWriter.create(tmp_path / "run", CONFIG) as writer:
        yield writer


def files(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def tensors(value):
    return {"params": torch.full((3, 5), float(value)), "t": torch.tensor(value), "ok": torch.tensor([True, False])}


def test_a_checkpoint_comes_back_bit_for_bit(writer):
    given = {
        "nan": torch.tensor([float("nan"), -0.0, float("inf")]),
        "wide": torch.arange(6, dtype=torch.float64).reshape(2, 3).T,
        "half": torch.ones(3, dtype=torch.bfloat16),
        "step": torch.tensor(7),
        "none": torch.zeros(0, 4),
        "grad": torch.ones(2, requires_grad=True),
    }
    writer.save_checkpoint(given, {"task": 3, "nested": {"list": [1, 2.5, None]}})
    found, position = writer.load_checkpoint()
    assert position == {"task": 3, "nested": {"list": [1, 2.5, None]}}
    assert found.keys() == given.keys()
    for name, tensor in given.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name].nan_to_num(3.0), tensor.detach().nan_to_num(3.0))


def test_writing_to_loaded_tensors_leaves_the_checkpoint_as_it_was(writer):
    writer.save_checkpoint(tensors(1), {})
    found, _ = writer.load_checkpoint()
    found["params"].zero_()
    again, _ = writer.load_checkpoint()
    assert (again["params"] == 1).all()


def test_saving_a_checkpoint_makes_no_copy_of_its_tensors(writer):
    given = {"params": torch.ones(1 << 24), "m": torch.zeros(1 << 24)}  # 64 MiB each
    tracemalloc.start()  # sees what Python objects hold, such as the bytes of a file
    try:
        writer.save_checkpoint(given, {})
        assert tracemalloc.get_traced_memory()[1] < 32 << 20
    finally:
        tracemalloc.stop()


def test_a_checkpoint_is_a_safetensors_file_of_every_dtype_and_layout(writer):
    given = {
        "strided": torch.arange(12.0).view(3, 4).t(),
        "bool": torch.arange(5) > 2,
        "double": torch.arange(3).double(),
        "byte": torch.arange(3).byte(),
    }
    writer.save_checkpoint(given, {})
    (path,) = (writer.run.path / "checkpoint").glob("*.safetensors")
    found = safetensors.torch.load_file(path)
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in given.items())
    with pytest.raises(TypeError, match=r"z must have one of the dtypes .*F32.*: got torch.complex64"):
        writer.save_checkpoint({"z": torch.zeros(1, dtype=torch.complex64)}, {})
    assert path.exists()


def test_a_run_without_a_checkpoint_loads_none(writer):
    assert writer.load_checkpoint() is None


def test_only_the_last_checkpoint_is_kept(writer):
    for n in range(3):
        writer.save_checkpoint(tensors(n), {"n": n})
    names = sorted(p.name for p in (writer.run.path / "checkpoint").iterdir())
    assert names == ["checkpoint.json", "state-2.safetensors"]
    entry = json.loads((writer.run.path / "checkpoint" / "checkpoint.json").read_text())
    digests = {"config_sha256", "sha256", "entry_sha256"}
    assert entry.keys() == {"schema_version", "fastplast", "position", "file", "size_bytes", *digests}


def test_no_flipped_bit_of_a_checkpoints_entry_gives_another_position(writer):
    writer.save_checkpoint(tensors(1), {"task": 2, "epoch": 1})
    path = writer.run.path / "checkpoint" / "checkpoint.json"
    data = path.read_bytes()
    for at in range(8 * len(data)):
        path.write_bytes(data[: at // 8] + bytes([data[at // 8] ^ 1 << at % 8]) + data[at // 8 + 1 :])
        with contextlib.suppress(StoreError, ValueError):  # of another schema
            assert writer.load_checkpoint()[1] == {"task": 2, "epoch": 1}


def test_a_checkpoint_of_an_earlier_version_has_no_digest_of_its_entry(writer):
    writer.save_checkpoint(tensors(1), {"task": 2})
    path = writer.run.path / "checkpoint" / "checkpoint.json"
    entry = json.loads(path.read_text())
    del entry["entry_sha256"]
    path.write_text(json.dumps(entry))
    assert writer.load_checkpoint()[1] == {"task": 2}


def test_a_position_that_is_no_json_changes_nothing(writer):
    writer.save_checkpoint(tensors(1), {"n": 1})
    before = files(writer.run.path)
    with pytest.raises(TypeError, match="not JSON serializable"):
        writer.save_checkpoint(tensors(2), {"n": torch.tensor(2)})
    assert files(writer.run.path) == before


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_checkpoint_is_an_error_that_says_what_is_intact(writer, damage):
    writer.save_checkpoint(tensors(1), {})
    state = writer.run.path / "checkpoint" / "state-0.safetensors"
    data = bytearray(state.read_bytes())
    data[-1] ^= 1
    state.write_bytes({"flip": bytes(data), "cut": bytes(data[:-4]), "gone": b""}[damage])
    if damage == "gone":
        state.unlink()
    with pytest.raises(StoreError, match=r"state-0.safetensors is damaged: got .*Metrics and spectra .* are intact"):
        writer.load_checkpoint()


def test_a_checkpoint_of_another_configuration_is_refused(writer):
    writer.save_checkpoint(tensors(1), {})
    (writer.run.path / "config.json").write_text(json.dumps(CONFIG | {"seeds": 4}))
    with pytest.raises(StoreError, match=r"belongs to another configuration than the config\.json"):
        writer.load_checkpoint()


def test_a_checkpoint_of_another_schema_is_refused(writer):
    writer.save_checkpoint(tensors(1), {})
    path = writer.run.path / "checkpoint" / "checkpoint.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(ValueError, match=r"checkpoint.json must have run schema 1: got 99, .* Upgrade fastplast"):
        writer.load_checkpoint()


def test_a_kill_at_any_moment_leaves_a_checkpoint_that_loads(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "run"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


WRITES = {
    "checkpoint": lambda w: w.save_checkpoint({"big": torch.zeros(100_000)}, {"n": 2}),
    "metrics": lambda w: w.write_metrics(0, "end", {**MEMBER, "error": [0.25]}),
    "spectra": lambda w: w.write_spectra(0, "start", [torch.arange(100_000)]),
    "timing": lambda w: w.append_timing({"text": "x" * 100_000}),
    "csv": lambda w: w.run.export_csv(w.run.path / "all.csv"),
    "finish": lambda w: w.finish(),
}


@pytest.mark.parametrize("what", WRITES)
def test_a_full_disk_leaves_every_file_as_it_was(writer, what):
    writer.save_checkpoint(tensors(1), {"n": 1})
    writer.write_metrics(0, "end", MEMBER)
    writer.append_timing({"task": 0})
    before = files(writer.run.path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))  # the system itself stops a write after 10 bytes
    try:
        with pytest.raises(StoreError, match=r"could not be written: .* intact. Make room or .*`fastplast resume`"):
            WRITES[what](writer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files(writer.run.path) == before
    WRITES[what](writer)  # and goes on once there is room
    assert files(writer.run.path) != before


@pytest.mark.parametrize("name", ["open", "fsync", "replace"])
def test_an_error_of_the_system_keeps_its_number_and_leaves_no_temporary_file(tmp_path, monkeypatch, name):
    def fail(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_file(tmp_path / "a.json", b"old")
    monkeypatch.setattr(*((run_files, "open", fail, False) if name == "open" else (os, name, fail)))
    with pytest.raises(StoreError, match=rf"{tmp_path}/a.json could not be written: No space left on device") as caught:
        write_file(tmp_path / "a.json", b"new")
    assert caught.value.errno == errno.ENOSPC
    assert files(tmp_path) == {"a.json": b"old"}


def test_a_run_that_cannot_be_started_leaves_an_empty_directory_behind(tmp_path, monkeypatch):
    def full(path, data):
        if path.name == "config.json":
            raise StoreError("full")
        write_file(path, data)

    monkeypatch.setattr("fastplast.runs.writer.write_file", full)
    with pytest.raises(StoreError, match="full"):
        RunWriter.create(tmp_path / "run", CONFIG)
    monkeypatch.undo()
    RunWriter.create(tmp_path / "run", CONFIG).close()  # so that the same command works once there is room


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_an_error_that_names_it(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=f"{tmp_path}/run could not be written: Permission denied"):
        RunWriter.create(tmp_path / "run", CONFIG)


def test_a_directory_that_cannot_be_made_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=f"{tmp_path}/file/run could not be written: Not a directory"):
        RunWriter.create(tmp_path / "file" / "run", CONFIG)


def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", no_locks)
    with pytest.warns(UserWarning, match="file system without locks .*make sure that only one process writes"):
        RunWriter.create(tmp_path / "run", CONFIG).close()


def test_two_writers_never_share_a_run(writer):
    with pytest.raises(
        StoreError, match=rf"{writer.run.path} must have one writer: got a second one while process \d+ on"
    ):
        RunWriter.open(writer.run.path)
    writer.close()
    RunWriter.open(writer.run.path).close()


def test_the_lock_ends_with_its_process(writer):
    writer.close()
    opening = f"RunWriter.open({str(writer.run.path)!r})"
    code = f"import os; from fastplast.runs.writer import RunWriter; w = {opening}; os._exit(9)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 9
    RunWriter.open(writer.run.path).close()


def test_a_writer_that_is_forgotten_gives_up_its_lock(tmp_path):
    RunWriter.create(tmp_path / "run", CONFIG)
    RunWriter.open(tmp_path / "run").close()


STARTED = """
import sys
from fastplast.runs.writer import RunWriter

input()
try:
    RunWriter.create(sys.argv[1], {}).finish()
    print("created")
except OSError as error:
    print(type(error).__name__)
"""


def test_of_many_that_start_a_run_at_once_one_does(tmp_path):
    command = [sys.executable, "-c", STARTED, tmp_path / "run"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    starters = [subprocess.Popen(command, **pipes) for _ in range(4)]
    for process in starters:
        process.stdin.write("\n")
        process.stdin.flush()
    outcomes = [process.communicate(timeout=60)[0].strip() for process in starters]
    assert outcomes.count("created") == 1
    assert set(outcomes) <= {"created", "FileExistsError", "StoreError"}
    assert Run(tmp_path / "run").is_finished
