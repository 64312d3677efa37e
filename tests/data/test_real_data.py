"""The full datasets, where they are in the data directory, are the official ones. Skipped where they are not."""

import hashlib
import runpy
from pathlib import Path

import numpy as np
import pytest

from fastplast.data import DATASETS, data_dir, load
from fastplast.data.embedded import embedded_path
from fastplast.data.local import find

# Digests that others have published of the uncompressed official files: MD5 for the IDX files, SHA-1 for CIFAR-10's
# binary batches (by MXNet). `fetch` writes these very files.
PUBLISHED = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
    "cifar10": {
        "data_batch_1.bin": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
        "data_batch_2.bin": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
        "data_batch_3.bin": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
        "data_batch_4.bin": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
        "data_batch_5.bin": "26e2849e66a845b7f1e4614ae70f4889ae604628",
        "test_batch.bin": "67eb016db431130d61cd03c7ad570b013799c88c",
    },
}
# Class sizes of the official training sets.
CLASS_SIZES = {
    "mnist": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
    "fashion_mnist": [6000] * 10,
    "cifar10": [5000] * 10,
}


def skip_without(name):
    if any(find(DATASETS[name], split, data_dir()) is None for split in ("train", "test")):
        pytest.skip(f"the full {name} is not in {data_dir()}; `fastplast data fetch {name}` brings it")


@pytest.fixture(params=DATASETS)
def full(request):
    skip_without(request.param)
    return request.param


def test_full_dataset_is_the_official_one(full):
    train, test = load(full), load(full, split="test")
    assert not train.is_embedded
    assert np.bincount(train.labels).tolist() == CLASS_SIZES[full]
    assert len(test.labels) == 10_000
    assert train.images.shape[1] == np.prod(DATASETS[full].shape)


def test_fetched_files_have_the_published_digests(full):
    found = find(DATASETS[full], "train", data_dir())
    if found.path != data_dir() / full:
        pytest.skip(f"{full} was not written by fetch: it is in {found.path}")
    method = "sha1" if full == "cifar10" else "md5"
    digests = {name: hashlib.new(method, (found.path / name).read_bytes()).hexdigest() for name in PUBLISHED[full]}
    assert digests == PUBLISHED[full]


@pytest.mark.parametrize("name", [name for name, spec in DATASETS.items() if spec.embedded is not None])
def test_embedded_subset_is_what_the_script_draws(name):
    skip_without(name)
    script = Path(__file__).parents[2] / "scripts" / "make_embedded_data.py"
    draw = runpy.run_path(str(script))["draw"]
    train = load(name)
    with np.load(embedded_path(DATASETS[name]), allow_pickle=False) as archive:
        index = archive["index"]
        np.testing.assert_array_equal(index, draw(name, len(train.images)))
        np.testing.assert_array_equal(archive["images"], train.images[index])
        np.testing.assert_array_equal(archive["labels"], train.labels[index])
