"""Runs and sweeps in object stores: whole or the state before, resumed, checked, and never in training's way."""

import json
import shutil
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from small_runs import drain, small, table

import fastplast as fp
from fastplast.cli.main import run
from fastplast.runs.files import StoreError, take_lock
from fastplast.stores import Pusher
from fastplast.stores.store import Store, stored_name
from fastplast.sweeps import grid_of, make_plan
from fastplast.sweeps.child import train_shard
from fastplast.training.start import start
from fastplast.training.storing import storing

S3 = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of the server's packages
FLAGS = "--epochs 1 --examples 32 --widths 6 5 4 --threads 1 --quiet"
EVERYTHING = {"epoch_curves": True, "srank_method": "exact", "keep_weights": "all"}
GRID = {"seeds": 1, "activation": ["relu", "tanh"], "tasks": 2, "epochs": 1, "examples": 32, "widths": (6, 5, 4)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "run"
    return fp.train(small(path, **EVERYTHING), progress=False).path


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def server():
    """A server of S3 on this machine, with a bucket."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("s3fs")
        moto = pytest.importorskip("moto.server")
        import boto3
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("ENDPOINT_URL", address), ("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b")):
            patch.setenv(f"AWS_{name}", value)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield address
    server.stop()


@pytest.fixture(params=["memory", "file", pytest.param("s3", marks=S3)])
def url(request, tmp_path):
    if request.param == "s3":
        request.getfixturevalue("server")
        return f"s3://bucket/{tmp_path.name}/run"
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    return "memory://bucket/a/run" if request.param == "memory" else f"file://{tmp_path}/bucket/a/run"


def content(path):
    hidden = (".lock", ".pulled.json")
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name not in hidden}


def place(url):
    store = Store(url)
    return store._files, store._root


def damage(url, name, data):
    files, root = place(url)
    sent = Store(url).read_manifest().files[name]
    files.rm_file(f"{root}/{stored_name(name, sent.sha256)}") if data is None else files.pipe_file(
        f"{root}/{stored_name(name, sent.sha256)}", data
    )
    return stored_name(name, sent.sha256)


def test_what_is_pulled_is_what_was_pushed_and_is_read_from_its_address(trained, url, tmp_path):
    assert fp.push(trained, url) == len(content(trained))
    assert content(fp.pull(url, tmp_path / "back")) == content(trained)
    assert fp.load(url).metrics().equals(fp.load(trained).metrics())
    assert run(["plot", url, "--out", str(tmp_path / "figure"), "--formats", "svg"]) == 0


def test_two_who_open_one_address_at_once_both_read_it(trained, tmp_path, monkeypatch):
    url, fetch, begun = f"file://{tmp_path}/bucket/run", Store.fetch, threading.Event()
    fp.push(trained, url)

    def fetch_slowly(store, name, path):
        if not begun.is_set():
            begun.set()
            time.sleep(1.5)  # in which the other finds a directory that is being filled
        fetch(store, name, path)

    monkeypatch.setattr(Store, "fetch", fetch_slowly)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(fp.load, url)
        begun.wait()
        second = pool.submit(fp.load, url)
    expected = fp.load(trained).metrics()
    assert all(one.result().metrics().equals(expected) for one in (first, second))


def test_nothing_unchanged_is_sent_or_fetched_again(trained, url, tmp_path):
    fp.push(trained, url)
    back = fp.pull(url, tmp_path / "back")
    times = {p: p.stat().st_mtime_ns for p in back.rglob("*") if p.is_file() and not p.name.startswith(".")}
    assert fp.push(trained, url) == 0
    fp.pull(url, back)
    assert times == {p: p.stat().st_mtime_ns for p in times}


def test_parts_in_the_store_are_read_by_other_programs_in_place(trained, url):
    import pandas

    fp.push(trained, url)
    files, root = place(url)
    parts = files.glob(f"{root}/metrics/part-*.parquet")
    assert len(parts) == 6
    rows = sum(len(pandas.read_parquet(files.open(part))) for part in parts)
    assert rows == len(fp.load(trained).metrics())


class Failing:
    """Makes a store fail from one writing call on."""

    def __init__(self, monkeypatch, after):
        self.left = after
        for name in ("send", "write_manifest"):
            monkeypatch.setattr(Store, name, self.counted(getattr(Store, name)))

    def counted(self, function):
        def call(*arguments):
            self.left -= 1
            if self.left < 0:
                raise StoreError("the store is away.")
            return function(*arguments)

        return call


def test_a_reader_sees_one_state_or_the_next_wherever_a_push_is_interrupted(url, tmp_path, monkeypatch):
    path = tmp_path / "run"
    fp.train(small(path, tasks=1), progress=False)
    fp.push(path, url)
    first = table(path)
    fp.resume(path, tasks=2, progress=False)
    before, after = Store(url).read_manifest().files, content(path)
    changed = [name for name, data in after.items() if name not in before or before[name].size != len(data)]
    tries, both = 0, table(path)
    while True:
        with monkeypatch.context() as patch:
            Failing(patch, after=1)
            try:
                fp.push(path, url)
                break
            except StoreError:
                tries += 1
        assert table(fp.pull(url, tmp_path / f"back-{tries}")).equals(first)
    assert len(changed) <= tries <= len(after)  # each goes a file further: none is sent again
    assert table(fp.pull(url, tmp_path / "back")).equals(both)
    assert table(fp.pull(url, tmp_path / "back-1")).equals(both)


def test_a_state_that_is_replaced_while_it_is_fetched_is_fetched_anew(url, tmp_path, monkeypatch):
    path, fetch = tmp_path / "run", Store.fetch
    fp.train(small(path, tasks=1), progress=False)
    fp.push(path, url)
    later = iter([2, 3])

    def replaced(self, name, to):
        if (tasks := next(later, None)) is not None:
            for files in (tasks, tasks):  # twice: what the reader wants is then removed
                if fp.load(path).config["tasks"] != files:
                    fp.resume(path, tasks=files, progress=False)
                Pusher(path, url).push()
        fetch(self, name, to)

    monkeypatch.setattr(Store, "fetch", replaced)
    assert table(fp.pull(url, tmp_path / "back")).equals(table(path))


def test_what_no_state_needs_is_removed(url, tmp_path):
    path = tmp_path / "run"
    fp.train(small(path, tasks=1), progress=False)
    for tasks in (2, 3, 4):
        fp.push(path, url)
        fp.resume(path, tasks=tasks, progress=False)
    fp.push(path, url)
    manifest = Store(url).read_manifest()
    needed = {stored_name(name, sent.sha256) for name, sent in manifest.files.items()} | {
        *manifest.before,
        "store.json",
    }
    assert set(Store(url).sizes(depth=2)) == needed


@pytest.mark.parametrize(("data", "says"), [(None, "missing in the store"), (b"x" * 50, "damaged in the store")])
def test_a_part_that_is_missing_or_damaged_is_named_and_sent_again(trained, url, tmp_path, data, says):
    fp.push(trained, url)
    name = damage(url, "metrics/part-00001-end.parquet", data)
    with pytest.raises(StoreError, match=says) as caught:
        fp.pull(url, tmp_path / "back")
    assert f"{url}/{name}" in str(caught.value)
    assert not (tmp_path / "back" / "config.json").exists()
    assert fp.push(trained, url) == 1
    assert content(fp.pull(url, tmp_path / "back")) == content(trained)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema_version": 1, "run": "", "files": {"../x": {}}, "before": []}']
)
def test_a_damaged_manifest_is_named(trained, url, tmp_path, text):
    fp.push(trained, url)
    files, root = place(url)
    files.pipe_file(f"{root}/store.json", text.encode())
    with pytest.raises(StoreError, match=r"store\.json is damaged"):
        fp.pull(url, tmp_path / "back")


def test_a_manifest_leads_to_no_file_outside(trained, url, tmp_path):
    fp.push(trained, url)
    files, root = place(url)
    entry = json.loads(files.cat_file(f"{root}/store.json"))
    for name in ("../x", "/x", "a/../../x", ".ssh/x", "a//x", ""):
        bad = entry | {"files": {name: {"size": 1, "sha256": "0" * 64}}}
        files.pipe_file(f"{root}/store.json", json.dumps(bad).encode())
        with pytest.raises(StoreError, match="is damaged"):
            fp.pull(url, tmp_path / "back")


def test_a_store_of_a_newer_version_is_refused(trained, url, tmp_path):
    fp.push(trained, url)
    files, root = place(url)
    files.pipe_file(f"{root}/store.json", b'{"schema_version": 2}')
    with pytest.raises(ValueError, match="Upgrade fastplast"):
        fp.pull(url, tmp_path / "back")


def test_another_run_is_not_replaced(trained, url, tmp_path):
    fp.push(trained, url)
    fp.train(small(tmp_path / "other", seeds=3, tasks=1), progress=False)
    with pytest.raises(StoreError, match="another run"):
        fp.push(tmp_path / "other", url)


def test_a_run_that_trains_is_pushed_by_its_own_process_only(trained, url, tmp_path):
    path = tmp_path / "run"
    shutil.copytree(trained, path)
    env = json.loads((path / "env.json").read_text())
    (path / "env.json").write_text(json.dumps(env | {"finished": False, "manifest": None}))
    take_lock(path)
    with pytest.raises(StoreError, match="one writer"):
        fp.push(path, url)


def test_what_was_trained_since_it_was_pulled_is_not_replaced(trained, url, tmp_path):
    fp.push(trained, url)
    back = fp.pull(url, tmp_path / "back")
    fp.resume(back, tasks=4, progress=False)
    with pytest.raises(FileExistsError, match="not trained since"):
        fp.pull(url, back)
    with pytest.raises(FileExistsError, match="new directory"):
        fp.pull(url, trained)
    assert fp.push(back, url) > 0
    assert len(fp.load(url).metrics()) == 16


def test_training_with_a_store_leaves_the_whole_run_there(url, tmp_path):
    path = tmp_path / "run"
    flags = [*FLAGS.split(), "--tasks", "2", "--seeds", "2"]
    assert run(["train", *flags, "--out", str(path), "--store", url]) == 0
    assert content(fp.pull(url, tmp_path / "back")) == content(path)
    assert run(["resume", str(path), "--tasks", "3", "--quiet", "--store", url]) == 0
    assert content(fp.pull(url, tmp_path / "back")) == content(path)


def test_what_was_stopped_elsewhere_goes_on_from_the_store_to_the_same_bytes(trained, url, tmp_path):
    path = tmp_path / "run"
    experiment = small(path, **EVERYTHING)
    _, events = start(experiment, stop=lambda: (path / "metrics" / "part-00001-start.parquet").exists())
    drain(storing(path, events, url))
    shutil.rmtree(path)
    back = fp.pull(url, tmp_path / "back")
    fp.resume(back, progress=False)
    for folder in ("metrics", "epochs", "spectra", "weights"):
        assert content(back / folder) == content(trained / folder)


def test_a_store_that_fails_is_said_and_tried_again_and_ends_no_training(url, tmp_path, monkeypatch):
    path = tmp_path / "run"
    flags = [*FLAGS.split(), "--tasks", "3", "--seeds", "2"]
    failing = Failing(monkeypatch, after=3)
    push, states = Pusher.push, []

    def noted(self):
        try:
            return push(self)
        finally:
            failing.left = 1000 if len(states) == 1 else failing.left
            states.append(Store(url).read_manifest() is not None)

    monkeypatch.setattr(Pusher, "push", noted)
    with pytest.warns(
        UserWarning, match=r"the store is away\. Training is not.*after the next task, or by `fastplast push"
    ):
        assert run(["train", *flags, "--out", str(path), "--store", url]) == 0
    assert states == [False, False, True, True]
    assert content(fp.pull(url, tmp_path / "back")) == content(path)


def test_a_sweep_is_pushed_shard_by_shard_and_read_as_one(url, tmp_path):
    swept = fp.sweep(GRID, tmp_path / "sweep", batch=1, progress=False)
    assert len(swept.shards) == 2
    fp.push(tmp_path / "sweep", url)
    assert fp.push(tmp_path / "sweep", url) == 0
    assert fp.load(url).metrics().equals(swept.metrics())
    back = fp.pull(url, tmp_path / "back")
    assert fp.sweep(GRID, back, batch=1, progress=False).metrics().equals(swept.metrics())


def test_a_sweep_with_a_store_leaves_every_shard_there(url, tmp_path):
    flags, path = [*FLAGS.split(), "--tasks", "1", "--seeds", "1", "--activation", "relu", "tanh"], tmp_path / "sweep"
    assert run(["sweep", *flags, "--batch", "1", "--out", str(path), "--store", url]) == 0
    assert fp.load(url).metrics().equals(fp.load(path).metrics())


def test_the_process_of_a_shard_on_a_cluster_sends_it_to_its_place_in_the_sweep(url, tmp_path):
    (shard,) = make_plan(grid_of(GRID | {"activation": "relu"}), tmp_path / "sweep").shards
    request = {"parent": 0, "path": str(shard.path), "config": shard.experiment.to_dict(), "store": url}
    assert train_shard(request)["error"] is None
    assert fp.load(url).metrics().equals(fp.load(tmp_path / "sweep").metrics())
    assert fp.load(url).path.name == "run"


@pytest.mark.parametrize(
    ("url", "says"),
    [("nothing://a/b", "must be a URL such as s3://"), ("run", "must be a URL such as s3://"), ("gs://a/b", "gcsfs")],
)
def test_a_store_that_cannot_be_is_refused_before_training(url, says, tmp_path, capsys):
    flags = [*FLAGS.split(), "--tasks", "1", "--seeds", "2"]
    status = run(["train", *flags, "--out", str(tmp_path / "run"), "--store", url])
    error = capsys.readouterr().err
    assert (status, error.count("\n"), says in error) == (2, 1, True)
    assert not (tmp_path / "run").exists()


def test_an_empty_place_is_said(url, tmp_path):
    with pytest.raises(StoreError, match="holds no results"):
        fp.pull(url, tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "credentials"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "127.0.0.1"),
        ({}, "bucket"),
    ],
)
@S3
def test_no_credentials_no_server_and_no_bucket_are_one_line_before_training(
    server, changes, says, tmp_path, capsys, monkeypatch
):
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name, value in changes.items():
        monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)
    flags = [*FLAGS.split(), "--tasks", "1", "--seeds", "2", "--store", f"s3://{'bucket' if changes else 'none'}/a"]
    assert run(["train", *flags, "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert (error.count("\n"), says in error, "Check the address" in error) == (1, True, True), error
    assert not (tmp_path / "run").exists()
    s3fs.S3FileSystem.clear_instance_cache()
