"""Where `load` looks, what it falls back to, and what `status` tells."""

import subprocess
import sys
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from synthetic_files import both, cifar_binary_files, digest, idx_files, write_files

from fastplast.data import DATASETS, DataError, data_dir, embedded, load, status
from fastplast.data.spec import spec_of


def test_import_is_light():
    heavy = "torch", "pooch", "PIL", "platformdirs", "requests"
    code = f"import sys, fastplast.data; sys.exit(', '.join(set(sys.modules) & set({heavy})) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_argument_goes_before_variable_and_variable_before_platform(tmp_path, monkeypatch):
    import platformdirs

    monkeypatch.setenv("FASTPLAST_DATA", str(tmp_path / "variable"))
    assert data_dir(tmp_path / "argument") == tmp_path / "argument"
    assert data_dir() == tmp_path / "variable"
    monkeypatch.setenv("FASTPLAST_DATA", "")
    assert str(data_dir()) == platformdirs.user_data_dir("fastplast", appauthor=False)
    monkeypatch.delenv("FASTPLAST_DATA")
    assert str(data_dir()) == platformdirs.user_data_dir("fastplast", appauthor=False)


def test_data_of_the_argument_is_loaded_rather_than_that_of_the_variable(root, tmp_path, tiny):
    write_files(root / "mnist", both(idx_files, tiny.mnist))
    place = write_files(tmp_path / "argument", both(idx_files, tiny.mnist))
    assert load("mnist").path == root / "mnist"
    assert load("mnist", directory=place).path == place


def test_home_directory_is_expanded(tmp_path, monkeypatch, tiny):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_files(tmp_path / "digits", both(idx_files, tiny.mnist))
    assert load("mnist", directory="~/digits").path == tmp_path / "digits"


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_embedded_subset_is_real_and_plausible(name, root):
    dataset, spec = load(name), DATASETS[name]
    assert dataset.is_embedded
    assert dataset.path is None
    assert dataset.source == f"embedded (1,280 of {spec.splits['train'].images:,} training images)"
    assert dataset.images.shape == (1280, np.prod(spec.shape))
    assert (dataset.images.dtype, dataset.labels.dtype) == (np.uint8, np.int64)
    assert dataset.checksum == digest(dataset.images, dataset.labels) == spec.embedded.checksum
    counts = np.bincount(dataset.labels, minlength=10)
    # A uniform draw of 1,280: each class has 128 expected; six standard deviations are 6 * sqrt(1280 * 0.1 * 0.9) = 64.
    assert len(counts) == 10
    assert np.all(np.abs(counts - 128) < 64)
    assert len(np.unique(dataset.images, axis=0)) == 1280


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_embedded_file_stores_the_official_indices(name):
    with np.load(embedded.embedded_path(spec_of(name)), allow_pickle=False) as archive:
        index = archive["index"]
    assert index.shape == (1280,)
    assert np.all(np.diff(index) > 0)
    assert index[0] >= 0
    assert index[-1] < DATASETS[name].splits["train"].images


def test_embedded_files_are_small():
    assert sum(path.stat().st_size for path in embedded.FOLDER.glob("*.npz")) < 5_000_000


def test_embedded_digits_are_upright_and_light_on_dark(root):
    # The mean "1" is a vertical stroke: bright in the middle column, dark at the left and right edges.
    dataset = load("mnist")
    mean = dataset.images[dataset.labels == 1].reshape(-1, 28, 28).mean(axis=0)
    assert mean[6:22, 13:15].mean() > 100
    assert mean[:, :6].max() < 30
    assert mean[:, -6:].max() < 30


def test_embedded_photos_have_their_channels_in_the_order_red_green_blue(root):
    # Ships and planes stand before sky and sea: more blue than red. A wrong order of channels turns this around.
    dataset = load("cifar10")
    assert dataset.shape == (3, 32, 32)
    outdoors = dataset.images[np.isin(dataset.labels, [0, 8])].reshape(-1, 3, 1024).mean(axis=(0, 2))
    assert outdoors[2] > outdoors[0] + 5
    deer = dataset.images[dataset.labels == 4].reshape(-1, 3, 1024).mean(axis=(0, 2))
    assert deer[1] > deer[2] + 5


@pytest.mark.parametrize("damage", [lambda content: content[:-500], lambda content: b"", lambda content: b"x" * 99])
def test_damaged_embedded_file_is_an_error(damage, root, tmp_path, monkeypatch):
    content = (embedded.FOLDER / "mnist.npz").read_bytes()
    monkeypatch.setattr(embedded, "FOLDER", tmp_path)
    (tmp_path / "mnist.npz").write_bytes(damage(content))
    with pytest.raises(DataError, match=r"mnist.npz, a part of the package, is damaged: .* Reinstall fastplast"):
        load("mnist")


def test_changed_embedded_file_is_an_error(root, tmp_path, monkeypatch):
    monkeypatch.setattr(embedded, "FOLDER", tmp_path)
    images, labels = np.zeros((1280, 784), np.uint8), np.zeros(1280, np.uint8)
    np.savez_compressed(tmp_path / "mnist.npz", images=images, labels=labels)
    with pytest.raises(DataError, match=r"is damaged: expected sha256 0a833a93\w+, found \w{64}\. Reinstall"):
        load("mnist")


@pytest.mark.parametrize(("name", "split"), [("fashion_mnist", "train"), ("mnist", "test"), ("cifar10", "test")])
def test_what_is_not_there_and_not_embedded_is_an_error_with_the_command(name, split, root):
    with pytest.raises(
        DataError, match=rf"the {split} split of {name} is not in {root}.* `fastplast data fetch {name}`"
    ):
        load(name, split=split)


def test_unknown_names_are_answered_with_the_list_and_the_closest():
    message = r"name must be one of mnist, fashion_mnist, cifar10: got 'minst'\. Did you mean 'mnist'\?"
    with pytest.raises(ValueError, match=message):
        load("minst")
    with pytest.raises(ValueError, match=r"name must be one of .*: got 'svhn'\.$"):
        load("svhn")
    with pytest.raises(ValueError, match=r"split must be one of train, test: got 'tets'\. Did you mean 'test'\?"):
        load("mnist", split="tets")


def test_directory_that_does_not_exist_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"directory must exist: got .*nowhere\. Give a directory that holds mnist"):
        load("mnist", directory=tmp_path / "nowhere")


def test_variable_that_names_a_directory_to_come_gives_the_embedded_subset(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTPLAST_DATA", str(tmp_path / "later"))
    assert load("mnist").is_embedded
    assert not (tmp_path / "later").exists()


def test_dataset_is_frozen(root):
    with pytest.raises(FrozenInstanceError):
        load("mnist").name = "other"


def test_status_of_an_empty_directory(root):
    rows = {(row.name, row.split): row for row in status()}
    assert list(rows) == [(name, split) for name in DATASETS for split in ("train", "test")]
    mnist = rows["mnist", "train"]
    assert mnist.found
    assert mnist.verified
    assert mnist.images == 1280
    assert mnist.source == "embedded (1,280 of 60,000 training images)"
    missing = rows["fashion_mnist", "train"]
    assert not missing.found
    assert not missing.verified
    assert missing.path is None
    assert (missing.source, missing.images) == ("missing", 0)
    assert "`fastplast data fetch fashion_mnist`" in missing.problem


def test_status_tells_the_verified_from_the_damaged(root, tiny):
    write_files(root / "mnist", both(idx_files, tiny.mnist))
    files = cifar_binary_files(tiny.cifar10, "train")
    write_files(root / "cifar10", {**files, "data_batch_1.bin": files["data_batch_2.bin"]})
    rows = {(row.name, row.split): row for row in status()}
    good, bad = rows["mnist", "test"], rows["cifar10", "train"]
    assert (good.found, good.verified, good.images, good.path) == (True, True, 6, root / "mnist")
    assert good.source == f"full (IDX files in {root / 'mnist'})"
    assert (bad.found, bad.verified, bad.images, bad.path) == (True, False, 0, root / "cifar10")
    assert bad.source == "damaged"
    assert "expected sha256" in bad.problem
