"""Downsampled ImageNet, from small archives in the forms of the real ones."""

import pickle
import zipfile

import numpy as np
import pytest

from fastplast.config import Experiment
from fastplast.data import DataError, load
from fastplast.data.imagenet import BATCHES
from fastplast.problems import build_problem, make_task


def batches(classes: int = 4, each: int = 6) -> list[tuple[np.ndarray, list[int]]]:
    """Ten batches of images whose first pixel is their class and whose second is their number within it."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (classes * each, 3072), dtype=np.uint8)
    labels = rng.permutation(np.repeat(np.arange(classes), each))
    pixels[:, 0] = labels
    for c in range(classes):
        pixels[labels == c, 1] = np.arange(each)
    parts = zip(np.array_split(pixels, BATCHES), np.array_split(labels + 1, BATCHES))
    return [(part, [int(label) for label in own]) for part, own in parts]


def write_npz(folder) -> None:
    for i, (pixels, labels) in enumerate(batches(), 1):
        np.savez(folder / f"train_data_batch_{i}.npz", data=pixels, labels=np.array(labels), mean=pixels.mean(0))


def write_pickles(folder) -> None:
    for i, (pixels, labels) in enumerate(batches(), 1):
        content = {"data": pixels, "labels": labels, "mean": pixels.mean(0)}
        (folder / f"train_data_batch_{i}").write_bytes(pickle.dumps(content, protocol=2))


def write_classes(folder) -> None:
    pixels, labels = (np.concatenate(part) for part in zip(*batches()))
    for c in range(4):
        np.save(folder / f"{c}.npy", pixels[labels == c + 1].reshape(-1, 3, 32, 32))


def zipped(folder, name: str, write) -> None:
    inside = folder / "inside"
    inside.mkdir()
    write(inside)
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path in inside.iterdir():
            archive.write(path, f"Imagenet32_train/{path.name}")
            path.unlink()


FORMS = {
    "npz": write_npz,
    "pickles": write_pickles,
    "classes": write_classes,
    "npz zip": lambda folder: zipped(folder, "Imagenet32_train_npz.zip", write_npz),
    "pickle zip": lambda folder: zipped(folder, "Imagenet32_train.zip", write_pickles),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_images_in_the_order_of_classes(tmp_path, form):
    FORMS[form](tmp_path)
    dataset = load("imagenet32", tmp_path)
    assert (dataset.shape, dataset.num_classes, dataset.images.dtype) == ((3, 32, 32), 4, np.uint8)
    assert dataset.labels.tolist() == np.repeat(np.arange(4), 6).tolist()
    assert dataset.images[:, 0].tolist() == dataset.labels.tolist()
    assert dataset.images[:, 1].tolist() == list(range(6)) * 4
    assert not dataset.is_embedded
    assert str(tmp_path) in dataset.source


def test_files_are_found_below_the_data_directory(tmp_path):
    (tmp_path / "imagenet32").mkdir()
    write_npz(tmp_path / "imagenet32")
    assert len(load("imagenet32", tmp_path).labels) == 24


def test_floating_point_images_are_inputs_as_they_are(tmp_path):
    for c in range(2):
        np.save(tmp_path / f"{c}.npy", np.random.default_rng(c).normal(size=(4, 3, 32, 32)))
    dataset = load("imagenet32", tmp_path)
    e = Experiment(benchmark="continual_imagenet", examples=4, test_examples=4, batch_size=2).resolved()
    task = make_task(build_problem(e, dataset, (0,)), 0)
    x = task.inputs(task.labels.new_tensor([[0, 3]]))
    assert np.array_equal(x[0].numpy(), dataset.images[task.rows[0, [0, 3]]])


def test_a_pickle_that_wants_more_than_arrays_is_refused(tmp_path):
    write_pickles(tmp_path)
    (tmp_path / "train_data_batch_3").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(DataError, match=r"train_data_batch_3 must be a readable batch: .* asks for os\.system"):
        load("imagenet32", tmp_path)


def test_arrays_with_pickles_in_them_are_refused(tmp_path):
    np.save(tmp_path / "0.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"0\.npy must be a readable \.npy without pickles"):
        load("imagenet32", tmp_path)


def test_what_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(DataError, match=r"imagenet32 is not in .* Put Imagenet32_train_npz\.zip"):
        load("imagenet32", tmp_path)
    write_npz(tmp_path)
    (tmp_path / "train_data_batch_7.npz").unlink()
    with pytest.raises(DataError, match=r"must hold train_data_batch_1 to 10: got train_data_batch_1\.npz, "):
        load("imagenet32", tmp_path)
    np.savez(tmp_path / "train_data_batch_7.npz", data=np.zeros((2, 5), np.uint8), labels=np.ones(2, int))
    with pytest.raises(
        DataError, match=r"train_data_batch_7\.npz must hold bytes \[images, 3072\]: got uint8 \[2, 5\]"
    ):
        load("imagenet32", tmp_path)
    np.savez(tmp_path / "train_data_batch_7.npz", data=np.zeros((2, 3072), np.uint8), labels=np.array([0, 1001]))
    with pytest.raises(DataError, match=r"train_data_batch_7\.npz must hold labels from 1 to 1000"):
        load("imagenet32", tmp_path)


def test_a_missing_class_and_a_wrong_shape_are_named(tmp_path):
    write_classes(tmp_path)
    (tmp_path / "2.npy").unlink()
    with pytest.raises(DataError, match=r"lacks 2\.npy of its 4 classes"):
        load("imagenet32", tmp_path)
    np.save(tmp_path / "2.npy", np.zeros((5, 32, 32, 3), np.uint8))
    with pytest.raises(DataError, match=r"2\.npy must be \[images, 3, 32, 32\]: got \[5, 32, 32, 3\]"):
        load("imagenet32", tmp_path)


def test_classes_without_an_image_are_refused(tmp_path):
    np.save(tmp_path / "0.npy", np.zeros((0, 3, 32, 32), np.uint8))
    with pytest.raises(DataError, match="must hold images: got none"):
        load("imagenet32", tmp_path)


def test_bytes_in_wider_integers_are_bytes_and_other_integers_refused(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32))
    np.save(tmp_path / "0.npy", pixels)
    np.save(tmp_path / "1.npy", pixels.astype(np.uint8))
    dataset = load("imagenet32", tmp_path)
    assert dataset.images.dtype == np.uint8
    assert np.array_equal(dataset.images[:2], dataset.images[2:])
    np.save(tmp_path / "0.npy", pixels + 1)
    pixels[0, 0, 0, 0] = 256
    np.save(tmp_path / "1.npy", pixels)
    with pytest.raises(DataError, match=r"npy must hold bytes or floating point numbers: got int64"):
        load("imagenet32", tmp_path)
