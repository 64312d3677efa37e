"""Every byte format decodes to the same arrays, and a file that contradicts itself is an error with its name in it."""

import gzip
import io
import json

import numpy as np
import pytest
from PIL import Image
from synthetic_files import (
    cifar_binary_files,
    cifar_python_files,
    cifar_sheet_files,
    digest,
    idx_files,
    make_arrays,
    npz_files,
)

from fastplast.data import formats

GREY, COLOUR = (1, 28, 28), (3, 32, 32)
DIGITS, PHOTOS = make_arrays(GREY, seed=1), make_arrays(COLOUR, seed=2)
CASES = {
    "idx": (formats.IDX, idx_files, DIGITS, GREY),
    "dotted idx": (formats.IDX_DOTTED, lambda arrays, split: idx_files(arrays, split, middle="."), DIGITS, GREY),
    "npz": (formats.KERAS_NPZ, lambda arrays, split: npz_files(arrays), DIGITS, GREY),
    "binary": (formats.CIFAR_BINARY, cifar_binary_files, PHOTOS, COLOUR),
    "python": (formats.CIFAR_PYTHON, cifar_python_files, PHOTOS, COLOUR),
    "sheets": (formats.CIFAR_SHEETS, cifar_sheet_files, PHOTOS, COLOUR),
}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("form", CASES)
def test_form_decodes_to_official_order_and_writable_arrays(form, split):
    layout, writer, arrays, shape = CASES[form]
    files = writer(arrays, split)
    assert tuple(files) == layout.files[split]
    images, labels = layout.decode(files, split, shape)
    np.testing.assert_array_equal(images, arrays[split][0])
    np.testing.assert_array_equal(labels, arrays[split][1])
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
    assert images.flags.writeable
    assert images.flags.c_contiguous
    assert labels.flags.writeable
    assert formats.checksum(images, labels) == digest(*arrays[split])


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("form", ["idx", "binary"])
def test_encoding_gives_the_published_bytes(form, split):
    layout, writer, arrays, shape = CASES[form]
    assert layout.encode(*arrays[split], split, shape) == writer(arrays, split)


def test_checksum_sees_every_pixel_and_every_label():
    images, labels = DIGITS["test"]
    changed_images, changed_labels = images.copy(), labels.copy()
    changed_images[-1, -1] ^= 1
    changed_labels[-1] ^= 1
    sums = {formats.checksum(*pair) for pair in ((images, labels), (changed_images, labels), (images, changed_labels))}
    assert len(sums) == 3


@pytest.mark.parametrize("form", CASES)
@pytest.mark.parametrize("keep", [0, 5, 0.6, 0.99])
def test_truncated_file_is_an_error_with_its_name(form, keep):
    layout, writer, arrays, shape = CASES[form]
    files = writer(arrays, "train")
    for name, content in files.items():
        size = keep if isinstance(keep, int) else int(len(content) * keep)
        with pytest.raises(ValueError, match=f"^{name}: "):
            layout.decode({**files, name: content[:size]}, "train", shape)


def test_idx_errors_say_what_was_expected_and_found():
    files = idx_files(DIGITS, "test")
    (image_name, images), (label_name, labels) = files.items()
    cases = [
        ({image_name: images[:-1]}, f"{image_name}: expected 4,720 bytes, found 4,719"),
        ({image_name: images + b"x"}, f"{image_name}: expected 4,720 bytes, found 4,721"),
        ({image_name: labels}, f"{image_name}: expected at least 16 bytes, found 14"),
        ({image_name: labels * 2}, f"{image_name}: expected .* 28 x 28 images, found magic number 0x00000801"),
        ({image_name: gzip.compress(images)}, f"{image_name}: .* found magic number 0x1f8b0800"),
        ({label_name: images}, f"{label_name}: expected an IDX file of labels, found magic number 0x00000803"),
        ({label_name: idx_files(DIGITS, "train")["train-labels-idx1-ubyte"]}, "expected 6 labels, .* found 20"),
    ]
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            formats.decode_idx({**files, **change}, "test", GREY)


def test_cifar_binary_error_says_the_record_size():
    files = cifar_binary_files(PHOTOS, "test")
    with pytest.raises(ValueError, match=r"test_batch.bin: expected a multiple of 3,073 bytes, found 18,437"):
        formats.decode_cifar_binary({"test_batch.bin": files["test_batch.bin"][:-1]}, "test", COLOUR)


def test_npz_with_pickled_objects_is_refused():
    stream = io.BytesIO()
    np.savez(stream, x_train=np.array([{}], dtype=object), y_train=np.zeros(1, np.uint8))
    with pytest.raises(ValueError, match=r"mnist.npz: not a readable archive of x_train and y_train"):
        formats.decode_npz({"mnist.npz": stream.getvalue()}, "train", GREY)


def test_npz_with_a_changed_flag_is_refused():
    content = bytearray(npz_files(DIGITS)["mnist.npz"])
    content[content.index(b"PK\x01\x02") + 8] |= 1  # now says that its first member is encrypted
    with pytest.raises(ValueError, match=r"mnist.npz: not a readable archive of .* is encrypted"):
        formats.decode_npz({"mnist.npz": bytes(content)}, "train", GREY)


@pytest.mark.parametrize("key", ["x_train", "y_train"])
def test_npz_of_another_type_is_refused(key):
    arrays = {"x_train": np.zeros((2, 28, 28), np.uint8), "y_train": np.zeros(2, np.uint8)}
    stream = io.BytesIO()
    np.savez(stream, **{**arrays, key: arrays[key].astype(np.float32)})
    with pytest.raises(ValueError, match=r"mnist.npz: expected .*, found float32"):
        formats.decode_npz({"mnist.npz": stream.getvalue()}, "train", GREY)


def test_sheet_of_another_width_or_colour_mode_is_refused():
    files = cifar_sheet_files(PHOTOS, "test")
    for mode, width in (("L", 1024), ("RGB", 1000)):
        stream = io.BytesIO()
        Image.new(mode, (width, 6)).save(stream, "PNG")
        with pytest.raises(ValueError, match=rf"expected RGB rows of 1,024 pixels, found {mode} of {width:,}"):
            formats.decode_cifar_sheets({**files, "test_batch.png": stream.getvalue()}, "test", COLOUR)


@pytest.mark.parametrize("labels", [[1, 2], [0, 1, 2, 3, 4, 256], [0.5] * 6, {"a": 1}, [[1]] * 6, ["1"] * 6])
def test_sheet_labels_must_be_one_byte_for_each_image(labels):
    files = {**cifar_sheet_files(PHOTOS, "test"), "test_lables.json": json.dumps(labels).encode()}
    with pytest.raises(ValueError, match=r"test_lables.json: expected 6 labels in 0..255"):
        formats.decode_cifar_sheets(files, "test", COLOUR)
