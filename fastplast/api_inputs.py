"""What ``fastplast.train`` and ``fastplast.sweep`` take as experiments and data, and what they refuse."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from fastplast.config import BENCHMARKS, ConfigError, Experiment, check_effects
from fastplast.data import DataError, Dataset
from fastplast.data.arrays import from_arrays
from fastplast.networks import ModuleFactory

_IMAGES, _LABELS = ("image", "img", "pixel_values", "x"), ("label", "labels", "fine_label", "y")


def as_dataset(data: Any) -> Dataset | None:
    """Images and labels in memory, from what people have them in.

    Args:
        data: a ``Dataset``; a pair of arrays, images and labels; a map-style dataset of PyTorch, whose items are pairs
            of an image and a label; or a dataset of Hugging Face with columns of images and labels.

    Returns:
        The dataset; None for None.

    Raises:
        TypeError: if it is none of these.
    """
    if data is None or isinstance(data, Dataset):
        return data
    if isinstance(data, (tuple, list)) and len(data) == 2:
        return from_arrays(*data)
    name = type(data).__name__
    if hasattr(data, "column_names"):
        images, labels = (_column(data, names) for names in (_IMAGES, _LABELS))
        columns: Any = data
        return from_arrays(_stack(columns[images]), np.asarray(columns[labels]), source=name)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, (str, bytes, dict)):
        pairs = [data[i] for i in range(len(data))]
        if all(isinstance(pair, (tuple, list)) and len(pair) == 2 for pair in pairs):
            return from_arrays(_stack(x for x, _ in pairs), np.array([int(y) for _, y in pairs]), source=name)
    raise TypeError(
        f"dataset must be images and labels: got {name}. Pass a pair of arrays, fastplast.data.from_arrays(...), a "
        "map-style dataset of PyTorch, or one of Hugging Face."
    )


def _column(data: Any, names: tuple[str, ...]) -> str:
    found = next((name for name in names if name in data.column_names), None)
    if found is None:
        raise DataError(f"dataset must have a column {' or '.join(names)}: got {', '.join(data.column_names)}.")
    return found


def _stack(images: Iterable[Any]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])


def check_experiment(experiment: Any, network: ModuleFactory | None) -> None:
    """Refuses what is no experiment, and options that do nothing.

    Args:
        experiment: that came.
        network: the factory beside it.

    Raises:
        TypeError: if it is no experiment.
        ConfigError: if an option does nothing, or the network is given twice.
    """
    if not isinstance(experiment, Experiment):
        named = f"benchmark={experiment!r}" if isinstance(experiment, str) and experiment in BENCHMARKS else "..."
        raise TypeError(
            f"experiment must be a fastplast.Experiment: got {experiment!r}. Say fastplast.Experiment({named})."
        )
    if network is None:
        check_effects(experiment)
    elif experiment.network is not None:
        raise ConfigError(f"network must be given once: got {experiment.network} and a function. Drop one of them.")
    else:
        check_effects(dataclasses.replace(experiment, network="module:own"))
