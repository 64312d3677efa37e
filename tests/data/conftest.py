from dataclasses import replace
from types import SimpleNamespace

import pytest
from synthetic_files import digest, make_arrays

from fastplast.data import DATASETS
from fastplast.data.spec import Split


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty data directory, which is also the default one."""
    path = tmp_path / "data"
    path.mkdir()
    monkeypatch.setenv("FASTPLAST_DATA", str(path))
    return path


@pytest.fixture
def tiny(monkeypatch):
    """Synthetic arrays of every dataset, with `DATASETS` expecting their sizes and checksums for the official ones."""
    arrays = {}
    for seed, (name, spec) in enumerate(list(DATASETS.items())):
        arrays[name] = make_arrays(spec.shape, seed)
        splits = {split: Split(len(data[0]), digest(*data)) for split, data in arrays[name].items()}
        monkeypatch.setitem(DATASETS, name, replace(spec, splits=splits))
    return SimpleNamespace(**arrays)
