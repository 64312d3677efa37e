"""A user's own images: arrays, an archive of arrays, a folder per class."""

import numpy as np
import pytest
import torch
from PIL import Image

import fastplast as fp
from fastplast.data import DataError, from_arrays, load
from fastplast.problems.build import build_problem

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (40, 8, 7), dtype=np.uint8)
LABELS = np.arange(40) % 4
SMALL = {"benchmark": "label_shuffle", "tasks": 1, "epochs": 1, "examples": 32, "seeds": 2, "widths": (6, 5)}


@pytest.mark.parametrize(
    ("images", "shape"),
    [(GREY, (1, 8, 7)), (GREY[:, None], (1, 8, 7)), (GREY[..., None], (1, 8, 7)),
     (np.repeat(GREY[..., None], 3, 3), (3, 8, 7)), (GREY / 255.0, (1, 8, 7))],
)  # fmt: skip
def test_arrays_become_channels_first(images, shape):
    dataset = from_arrays(images, LABELS)
    assert (dataset.shape, dataset.num_classes) == (shape, 4)
    assert dataset.images.dtype == (np.uint8 if images.dtype == np.uint8 else np.float32)
    assert np.array_equal(
        dataset.images.reshape(40, *shape)[:, 0], GREY if images.dtype == np.uint8 else images.astype("f4")
    )


def test_classes_are_the_labels_that_occur():
    dataset = from_arrays(GREY, LABELS * 10 + 3)
    assert (dataset.num_classes, dataset.labels.tolist()) == (4, LABELS.tolist())


@pytest.mark.parametrize(
    ("images", "labels", "text"),
    [(GREY.astype(int), LABELS, "images must be uint8 or float32"), (GREY[0, 0], LABELS[:7], "images must be uint8"),
     (GREY, LABELS[:-1], "labels must be whole numbers, one for each of 40"), (GREY, LABELS / 1, "labels must"),
     (np.full((4, 2, 2), np.nan, np.float32), LABELS[:4], "images must be finite")],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(images, labels, text):
    with pytest.raises(DataError, match=text):
        from_arrays(images, labels)


def test_a_run_on_arrays_is_named_resumed_and_kept_apart(tmp_path):
    dataset = from_arrays(GREY, LABELS, name="mine")
    run = fp.train(fp.Experiment(**SMALL, dataset="./mine", out=str(tmp_path / "r")), dataset=dataset)
    assert set(run.metrics().dataset) == {"./mine"}
    assert set(run.metrics().benchmark) == {"label_shuffle"}
    assert fp.resume(run.path, dataset=dataset).is_finished


@pytest.mark.parametrize("names", [("images", "labels"), ("x_train", "y_train"), ("x", "y")])
def test_an_archive_of_arrays_is_a_dataset(tmp_path, names):
    path = tmp_path / "mine.npz"
    np.savez(path, **dict(zip(names, (GREY, LABELS))))
    metrics = fp.train(fp.Experiment(**SMALL, dataset=path, out=str(tmp_path / "r"))).metrics()
    assert set(metrics.dataset) == {str(path)}


def test_a_folder_per_class_is_a_dataset(tmp_path):
    for number, (image, label) in enumerate(zip(GREY, LABELS)):
        folder = tmp_path / "images" / f"class{label}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number:03}.png")
    dataset = load(str(tmp_path / "images"))
    assert (dataset.shape, dataset.num_classes, len(dataset.labels)) == ((1, 8, 7), 4, 40)
    assert np.array_equal(dataset.images[:10].reshape(-1, 8, 7), GREY[LABELS == 0])
    Image.fromarray(GREY[0, :4]).save(tmp_path / "images" / "class3" / "z.png")
    with pytest.raises(DataError, match=r"images must have one size .*z\.png, after \[8, 7\]"):
        load(str(tmp_path / "images"))


def test_places_that_are_no_datasets_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"--dataset must be a folder of images by class or an \.npz"):
        load(f"{tmp_path}/absent")
    with pytest.raises(DataError, match="must have a folder of images for each class: got none"):
        load(f"{tmp_path}/")
    np.savez(tmp_path / "a.npz", pixels=GREY)
    with pytest.raises(DataError, match=r"must hold images and labels or .* got pixels"):
        load(str(tmp_path / "a.npz"))
    np.savez(tmp_path / "b.npz", images=np.array([{}], dtype=object), labels=LABELS)
    with pytest.raises(DataError, match=r"must be a readable \.npz without pickles"):
        load(str(tmp_path / "b.npz"))
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "one").mkdir()
    with pytest.raises(DataError, match="must hold images"):
        load(str(tmp_path / "c"))


def test_arrays_of_other_libraries_are_taken_as_they_lie():
    dataset = from_arrays(torch.from_numpy(GREY), torch.from_numpy(LABELS))
    assert dataset.checksum == from_arrays(GREY, LABELS).checksum


def test_memory_elsewhere_is_handed_over_by_dlpack():
    class OnTheGpu:
        """Refuses to be an array of NumPy, as CuPy's do."""

        def __init__(self, values):
            self.values = torch.from_numpy(values)

        def __array__(self, *_, **__):
            raise TypeError("implicit conversion to a NumPy array is not allowed")

        def __dlpack__(self, **options):
            return self.values.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.values.__dlpack_device__()

    assert from_arrays(OnTheGpu(GREY), OnTheGpu(LABELS)).checksum == from_arrays(GREY, LABELS).checksum


@pytest.mark.parametrize("channels", [2, 4])
def test_images_of_other_channels_are_refused(channels):
    with pytest.raises(DataError, match=r"images must have 1 or 3 channels, first or last: got \[4, 28, 28"):
        from_arrays(np.zeros((4, 28, 28, channels), np.uint8), LABELS[:4])


def test_labels_may_be_a_column_and_memory_read_only(tmp_path, recwarn):
    np.save(tmp_path / "x.npy", GREY)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    dataset = from_arrays(mapped, LABELS[:, None])
    assert dataset.labels.tolist() == LABELS.tolist()
    torch.from_numpy(dataset.images)
    assert not recwarn.list


def test_the_names_of_medmnist_are_known(tmp_path):
    np.savez(tmp_path / "m.npz", train_images=GREY, train_labels=LABELS[:, None], test_images=GREY[:3])
    assert np.array_equal(load(str(tmp_path / "m.npz")).images, GREY.reshape(40, -1))


def test_a_folder_holds_grey_of_16_bits_and_files_of_the_system(tmp_path):
    ramp = np.linspace(0, 63000, 64).astype(np.uint16).reshape(8, 8)
    for name in ("a", "b", "__MACOSX", ".git"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        Image.fromarray(ramp).save(tmp_path / name / "1.png")
        (tmp_path / name / "._1.png").write_bytes(b"no image")
    (tmp_path / "__MACOSX" / "2.png").write_bytes(b"no image")
    dataset = load(str(tmp_path))
    assert (dataset.shape, dataset.num_classes) == ((1, 8, 8), 2)
    assert np.array_equal(dataset.images[0].reshape(8, 8), ramp >> 8)


def test_images_of_floating_point_numbers_in_files_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "a" / "1.tif")
    (tmp_path / "a" / "1.tif").rename(tmp_path / "a" / "1.png")
    with pytest.raises(DataError, match="must be a readable image: pixels are not bytes but of mode F"):
        load(str(tmp_path))


@pytest.mark.parametrize(("mean", "std"), [(1e5, 0.5), (-3e4, 0.25), (0.0, 2.0)])
def test_standardized_inputs_far_from_zero_have_variance_one(mean, std):
    images = (mean + std * RNG.standard_normal((400, 6, 6))).astype(np.float32)
    dataset = from_arrays(images, np.arange(400) % 4)
    e = fp.Experiment(**SMALL, dataset="./mine", pixel_range="standardized").resolved()
    problem = build_problem(e, dataset, (0,))
    inputs = problem.images * problem.scale + problem.shift
    assert abs(float(inputs.double().std(correction=0)) - 1) < 1e-3
    assert abs(float(inputs.double().mean())) < 1e-2
