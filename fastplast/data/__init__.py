"""Image datasets in memory: the full ones from local files, or the subsets that travel with the package."""

from fastplast.data.arrays import Dataset, from_arrays, load_own
from fastplast.data.dataset import Status, data_dir, load, register, status
from fastplast.data.sources import fetch
from fastplast.data.spec import DATASETS, DataError

__all__ = [
    "DATASETS",
    "DataError",
    "Dataset",
    "Status",
    "data_dir",
    "fetch",
    "from_arrays",
    "load",
    "load_own",
    "register",
    "status",
]
