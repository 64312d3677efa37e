"""The pickled batches of CIFAR-10 are read, and nothing that a pickle asks for is done."""

import os
import pickle
import struct

import numpy as np
import pytest
from synthetic_files import make_arrays, python2_batch, short_string

from fastplast.data.batches import read_batch

IMAGES, LABELS = make_arrays((3, 32, 32), seed=0)["train"]


def test_batch_of_python_2_is_read():
    images, labels = read_batch(python2_batch(IMAGES, LABELS))
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)
    assert (images.dtype, labels.dtype) == (np.uint8, np.int64)


def test_synthetic_batch_is_a_pickle_that_numpy_understands():
    batch = pickle.loads(python2_batch(IMAGES, LABELS), encoding="bytes")
    np.testing.assert_array_equal(batch[b"data"], IMAGES)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_batch_that_python_3_wrote_anew_is_read(protocol):
    images, labels = read_batch(pickle.dumps({"data": IMAGES, "labels": LABELS.tolist()}, protocol=protocol))
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS)


def test_batch_in_fortran_order_is_read_by_rows():
    content = pickle.dumps({"data": np.asfortranarray(IMAGES), "labels": LABELS.tolist()}, protocol=4)
    images, _ = read_batch(content)
    np.testing.assert_array_equal(images, IMAGES)
    assert images.flags.c_contiguous


class _MakesDirectory:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def _malicious(path):
    text = path.encode()
    unicode_text = b"X" + struct.pack("<i", len(text)) + text
    return {
        "reduce": pickle.dumps(_MakesDirectory(path), protocol=2),
        "stack global": pickle.dumps(_MakesDirectory(path), protocol=4),
        "inside a batch": pickle.dumps({"data": _MakesDirectory(path), "labels": []}, protocol=2),
        "inst": b"(" + unicode_text + b"ios\nmkdir\n.",
        "obj": b"(cos\nmkdir\n" + unicode_text + b"o.",
        "exec": b"cbuiltins\nexec\n" + b"X" + struct.pack("<i", len(text) + 24)
        + b"import os; os.mkdir('" + text + b"')\n\x85R.",
    }  # fmt: skip


@pytest.mark.parametrize("kind", _malicious("x"))
def test_malicious_pickle_does_not_execute(kind, tmp_path):
    target = tmp_path / "made"
    content = _malicious(str(target))[kind]
    with pytest.raises(ValueError, match=r"asks for \w+\.(mkdir|exec), which no CIFAR-10 batch needs"):
        read_batch(content)
    assert not target.exists()


@pytest.mark.parametrize("kind", ["reduce", "stack global", "inside a batch", "inst", "obj"])
def test_malicious_pickles_would_execute_under_plain_pickle(kind, tmp_path):
    target = tmp_path / "made"
    pickle.loads(_malicious(str(target))[kind])
    assert target.exists()


@pytest.mark.parametrize(
    "name",
    [("numpy", "load"), ("numpy.core.multiarray", "array"), ("_codecs", "decode"), ("numpy", "ndarray.tofile")],
)
def test_only_the_needed_names_of_a_module_are_allowed(name):
    with pytest.raises(ValueError, match=f"asks for {name[0]}.{name[1]}, which no CIFAR-10 batch needs"):
        read_batch(b"c" + "\n".join(name).encode() + b"\n.")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a readable CIFAR-10 batch"),
        (b"\x80\x02}q\x01(U", "not a readable CIFAR-10 batch"),
        (python2_batch(IMAGES, LABELS)[:-1000], "not a readable CIFAR-10 batch"),
        (b"\x80\x02Ppersistent\n.", "not a readable CIFAR-10 batch"),
        (b"\x80\x02K\x01.", "expected a pickled dict, found int"),
        (b"\x80\x02}" + short_string(b"fine_labels") + b"]s.", "expected the keys data and labels, found fine_labels"),
        (pickle.dumps({"data": [1], "labels": [1]}), "expected the images as a numpy array"),
        (pickle.dumps({"data": IMAGES.astype(np.float32), "labels": []}, protocol=2), "of type uint8, found f4"),
        (pickle.dumps({"data": IMAGES.reshape(20, 3, -1), "labels": []}, protocol=2), "as a matrix, found the shape"),
        (python2_batch(IMAGES, LABELS[:-1]), "expected a list of 20 labels in 0..255, one for each image"),
        (pickle.dumps({"data": IMAGES, "labels": [256] * 20}, protocol=2), "expected a list of 20 labels in 0..255"),
        (
            python2_batch(IMAGES, LABELS).replace(b"M\x14\x00M", b"M\x15\x00M"),
            "expected 64,512 pixel bytes, found 61440",
        ),
    ],
)
def test_what_is_not_a_batch_is_an_error(content, message):
    with pytest.raises(ValueError, match=message):
        read_batch(content)


def test_stand_ins_keep_no_trace_of_what_was_read():
    # BUILD with a slot state would set attributes on whatever object is below it on the stack, a stand-in class here.
    poison = b"\x80\x02cnumpy\nndarray\n(N}" + short_string(b"arguments") + b"K\x01stb."
    with pytest.raises(ValueError, match="not a readable CIFAR-10 batch"):
        read_batch(poison)
    images, _ = read_batch(python2_batch(IMAGES, LABELS))
    np.testing.assert_array_equal(images, IMAGES)
