"""`load` and `status`: one dataset in memory, and what is there to be loaded."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from fastplast.config import DATASET_NAMES, add_own, is_path
from fastplast.data.arrays import Dataset, load_own, make_bits
from fastplast.data.embedded import embedded_path, load_embedded
from fastplast.data.imagenet import load_imagenet32
from fastplast.data.local import Found, data_dir, find, read
from fastplast.data.spec import DATASETS, SPLITS, DataError, Spec, choose, spec_of
from fastplast.registered import named


@dataclass(frozen=True)
class Status:
    """What `load` would do for one split of one dataset.

    Attributes:
        name: the dataset's name.
        split: "train" or "test".
        found: whether there is anything to load, be it damaged.
        source: as in `Dataset`; "missing" or "damaged" where nothing can be loaded.
        path: where it is; None when missing.
        verified: whether its checksum is the official one (for an embedded subset: the recorded one).
        images: how many images would be loaded.
        problem: the error that `load` would raise; empty when there is none.
    """

    name: str
    split: str
    found: bool
    source: str
    path: Path | None
    verified: bool
    images: int
    problem: str = ""


Loader = Callable[[str | os.PathLike[str] | None, str], Dataset]  # from directory and split
LOADERS: dict[str, Loader] = {
    "imagenet32": lambda directory, split: load_imagenet32(directory),
    "bits": lambda directory, split: make_bits(),
}


def register(name: str, load: Callable[[], Dataset]) -> None:
    """Makes a dataset of one's own known to this process: to train on it, and to resume what was trained on it.

    Args:
        name: what ``Experiment(dataset=...)`` calls it.
        load: gives the dataset, for example by `from_arrays`; called when it is needed.

    Raises:
        ValueError: if the name is one of the package's, or a path.
    """
    if is_path(name):
        raise ValueError(f"name must be no path: got {name!r}. Leave out slashes and a final .npz.")
    add_own("dataset", name, DATASET_NAMES)

    def loaded(directory: str | os.PathLike[str] | None, split: str) -> Dataset:
        with named(f"load of the dataset {name!r}", "dataset"):
            return replace(load(), name=name)

    LOADERS[name] = loaded


def load(name: str, directory: str | os.PathLike[str] | None = None, split: str = "train") -> Dataset:
    """Loads a dataset from local files, or its embedded subset where there are none.

    Files are verified against the official checksum, in whatever form they are. Files that are found and are damaged,
    incomplete or of other data are an error: they are never passed over.

    Args:
        name: "mnist", "fashion_mnist", "cifar10", "imagenet32", "bits", one that was registered, or a path with images
            of the user's (`load_own`).
        directory: a data directory, or the folder, file or archive with the data; None takes FASTPLAST_DATA, else the
            platform's data directory.
        split: "train" or "test".

    Returns:
        The full split; of the training split the embedded subset when no file of it is there (`is_embedded` tells).

    Raises:
        ValueError: `name` or `split` is unknown.
        DataError: what was found is damaged or not the dataset, `directory` does not exist, or nothing was found and
            there is no embedded subset.
    """
    if is_path(name):
        return load_own(name)
    if name in LOADERS:
        return LOADERS[name](directory, split)
    spec = spec_of(name)
    choose("split", split, SPLITS)
    root = data_dir(directory)
    if directory is not None and not root.exists():
        raise DataError(f"directory must exist: got {root}. Give a directory that holds {name}, or none.")
    dataset = _load(spec, split, find(spec, split, root))
    if dataset is not None:
        return dataset
    raise DataError(
        f"the {split} split of {name} is not in {root}, and only training images of "
        f"{', '.join(key for key, other in DATASETS.items() if other.embedded)} are embedded. "
        f"Get it with `fastplast data fetch {name}`."
    )


def status(directory: str | os.PathLike[str] | None = None) -> list[Status]:
    """Tells, for every split of every dataset, what `load` would give; it reads and verifies all that is there.

    Args:
        directory: as in `load`.

    Returns:
        One row for each dataset and split.
    """
    return [_status(spec, split, data_dir(directory)) for spec in DATASETS.values() for split in spec.splits]


def _status(spec: Spec, split: str, root: Path) -> Status:
    path = root
    try:
        found = find(spec, split, root)
        path = embedded_path(spec) if found is None else found.path
        dataset = _load(spec, split, found)
        if dataset is not None:
            return Status(spec.name, split, True, dataset.source, path, True, len(dataset.images))
    except DataError as error:
        return Status(spec.name, split, True, "damaged", path, False, 0, str(error))
    problem = f"Get it with `fastplast data fetch {spec.name}`."
    return Status(spec.name, split, False, "missing", None, False, 0, problem)


def _load(spec: Spec, split: str, found: Found | None) -> Dataset | None:
    """What was found, else the embedded subset; None where there is none."""
    if found is not None:
        images, labels, layout = read(spec, split, found)
        source, path, checksum = f"full ({layout.name} in {found.path})", found.path, spec.splits[split].checksum
    elif split == "train" and spec.embedded is not None:
        images, labels = load_embedded(spec)
        source = f"embedded ({spec.embedded.images:,} of {spec.splits['train'].images:,} training images)"
        path, checksum = None, spec.embedded.checksum
    else:
        return None
    return Dataset(spec.name, images, labels, spec.shape, spec.num_classes, source, path, checksum)
