"""fastplast: trains hundreds of small networks at once to study loss of plasticity.

    >>> import fastplast as fp
    >>> run = fp.train(fp.Experiment(benchmark="mnist_shuffle", seeds=8))  # doctest: +SKIP
    >>> run.metrics()  # doctest: +SKIP

Names are imported when first used, so that ``import fastplast`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastplast.config import ConfigError, Experiment
from fastplast.version import __version__

if TYPE_CHECKING:
    from fastplast.api import load, resume, sweep, train
    from fastplast.reports import report
    from fastplast.runs.run import Run
    from fastplast.stores import pull, push
    from fastplast.sweeps import Sweep

_HOMES = {
    "train": "fastplast.api",
    "resume": "fastplast.api",
    "load": "fastplast.api",
    "report": "fastplast.reports",
    "pull": "fastplast.stores",
    "push": "fastplast.stores",
    "Run": "fastplast.runs.run",
    "Sweep": "fastplast.sweeps",
    "sweep": "fastplast.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'fastplast' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


__all__ = [
    "ConfigError", "Experiment", "Run", "Sweep", "__version__",
    "load", "pull", "push", "report", "resume", "sweep", "train",
]  # fmt: skip
