"""Which studies a figure is drawn from on this machine."""

from __future__ import annotations

import dataclasses

from fastplast.data import DATASETS, data_dir
from fastplast.data.local import find
from fastplast.paper.registry import Figure
from fastplast.paper.studies import PAIR_DATASETS, Use


def uses_of(figure: Figure, scale: str) -> tuple[Use, ...]:
    """The runs of a figure; pairs of classes are of the richest labelled images on this machine.

    Args:
        figure: which.
        scale: at ``smoke`` only images that travel with the package are used.

    Returns:
        What it is drawn from.
    """
    if not figure.uses[0].study.startswith("pairs_"):
        return figure.uses
    dataset = "cifar10" if scale == "smoke" else richest_dataset()
    return tuple(dataclasses.replace(use, study=f"{use.study}-{dataset}") for use in figure.uses)


def richest_dataset() -> str:
    """The dataset of most classes and colours whose full training images are on this machine.

    Returns:
        Its name; CIFAR-10, whose embedded images are too few for a task, where there is none.
    """
    root = data_dir()
    for name in PAIR_DATASETS:
        if (root / name).is_dir() if name not in DATASETS else find(DATASETS[name], "train", root):
            return name
    return "cifar10"
