"""Whole runs, small enough to train in a test."""

import pandas as pd

import fastplast as fp
from fastplast.training.loop import EpochDone

SMALL = {"tasks": 3, "epochs": 2, "examples": 96, "widths": (12, 10, 8), "threads": 1}


def small(path, **changes) -> fp.Experiment:
    return fp.Experiment(out=str(path), **{"benchmark": "mnist_shuffle", "seeds": 2} | SMALL | changes)


def table(path) -> pd.DataFrame:
    return fp.load(path).metrics().drop(columns=["data_source"])


def drain(events, after=None, kind=EpochDone):
    """Consumes events, up to and with the after-th of a kind."""
    seen = 0
    for event in events:
        seen += isinstance(event, kind)
        if seen == after:
            return
