"""The subsets of real training images that travel with the package, so that everything runs without a download.

Each is `embedded/<name>.npz` (no pickle inside) with `images` uint8 `[1280, C*H*W]`, `labels` uint8 `[1280]` and
`index` int32 `[1280]`, the ascending positions of the images in the official training set.
`scripts/make_embedded_data.py` makes them and documents the draw; NOTICE names their authors and licences.
"""

import io
from pathlib import Path

import numpy as np

from fastplast.bounded import reason
from fastplast.data.formats import Arrays, checksum
from fastplast.data.spec import DataError, Spec

FOLDER = Path(__file__).parent / "embedded"


def embedded_path(spec: Spec) -> Path:
    """The file of a dataset's embedded subset.

    Args:
        spec: a dataset.

    Returns:
        Its path, which exists if the dataset has such a subset.
    """
    return FOLDER / f"{spec.name}.npz"


def load_embedded(spec: Spec) -> Arrays:
    """Reads and verifies the embedded subset.

    Args:
        spec: a dataset that has one.

    Returns:
        `images`, uint8 `[R, C*H*W]`, and `labels`, int64 `[R]`.

    Raises:
        DataError: the dataset has no embedded subset, or its file is damaged.
    """
    if spec.embedded is None:
        raise DataError(f"{spec.name} has no embedded subset. Get the dataset with `fastplast data fetch {spec.name}`.")
    path = embedded_path(spec)
    mend = "Reinstall fastplast to mend it."
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            images, labels = archive["images"], archive["labels"].astype(np.int64)
    except Exception as error:  # as for the archives in formats.decode_npz
        raise DataError(f"{path}, a part of the package, is damaged: {reason(error)}. {mend}") from error
    digest = checksum(images, labels)
    if digest != spec.embedded.checksum:
        raise DataError(
            f"{path}, a part of the package, is damaged: "
            f"expected sha256 {spec.embedded.checksum}, found {digest}. {mend}"
        )
    return images, labels
