"""Makes the subsets of MNIST and CIFAR-10 that travel with the package (fastplast/data/embedded/*.npz).

    fastplast data fetch mnist && fastplast data fetch cifar10
    python scripts/make_embedded_data.py            # writes the files and prints their checksums
    python scripts/make_embedded_data.py --check    # compares the committed files with a fresh draw, writes nothing

The draw. A training image is kept when the SHA-256 digest of the text "fastplast <name> <index>" (index: its position
in the official training set, from 0) is among the 1,280 smallest. A digest behaves as a uniform random number, so this
is a uniform draw without replacement, which no version of a random generator can change. Classes are not balanced, as
in a plain random draw. The kept images are stored by ascending index.

The checksums that are printed belong in `embedded=` in fastplast/data/spec.py.
"""

import argparse
import hashlib
import sys

import numpy as np

from fastplast.data import DATASETS, load
from fastplast.data.embedded import embedded_path
from fastplast.data.formats import checksum

IMAGES = 1280  # the number of examples in a task of the paper


def draw(name: str, population: int) -> np.ndarray:
    """The positions of the kept images in the official training set, int32 `[1280]`, ascending."""
    digests = [hashlib.sha256(f"fastplast {name} {index}".encode()).digest() for index in range(population)]
    kept = sorted(range(population), key=digests.__getitem__)[:IMAGES]
    return np.array(sorted(kept), dtype=np.int32)


def make(name: str, is_check: bool) -> bool:
    """Writes one subset, or compares it with the committed one; tells whether the committed one is right."""
    spec = DATASETS[name]
    full = load(name)
    if full.is_embedded:
        sys.exit(f"the full {name} is not here: run `fastplast data fetch {name}` first")
    index = draw(name, len(full.images))
    images, labels = full.images[index], full.labels[index].astype(np.uint8)
    path = embedded_path(spec)
    if not is_check:
        np.savez_compressed(path, images=images, labels=labels, index=index)
    with np.load(path, allow_pickle=False) as archive:
        is_same = all(
            np.array_equal(archive[key], value)
            for key, value in (("images", images), ("labels", labels), ("index", index))
        )
    digest = checksum(images, labels)
    is_recorded = spec.embedded is not None and spec.embedded.checksum == digest
    counts = " ".join(map(str, np.bincount(labels, minlength=spec.num_classes)))
    print(f"{name}: sha256 {digest} ({'recorded' if is_recorded else 'NOT the recorded one'}), classes {counts}")
    print(f"  {path}: {path.stat().st_size:,} bytes, {'as drawn' if is_same else 'NOT as drawn'}")
    return is_same and is_recorded


def main() -> int:
    """Makes or checks every embedded subset; the exit status is 1 when one is not as it should be."""
    parser = argparse.ArgumentParser(description="Makes the embedded subsets of MNIST and CIFAR-10.")
    parser.add_argument("--check", action="store_true", help="compare the committed files, write nothing")
    is_check = parser.parse_args().check
    results = [make(name, is_check) for name, spec in DATASETS.items() if spec.embedded is not None]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
