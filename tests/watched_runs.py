"""Runs that are watched as they train, and what TensorBoard then reads of them."""

import numpy as np
import pandas as pd
import pytest

from fastplast.tracking import Views, watch


def look(begun, views: Views, until=lambda event: False) -> None:
    """Trains as it is watched, to the end or until an event at which the process is killed."""
    setup, events = begun
    for event in (watched := watch(setup, events, views)):
        if until(event):
            break
    watched.close()  # type: ignore[attr-defined]
    events.close()


def points(directory) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard's own reader finds in a directory of event files: tag to (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    return {tag: [(p.step, p.value) for p in reader.Scalars(tag)] for tag in reader.Tags()["scalars"]}


def assert_all_metrics_are_there(place, metrics: pd.DataFrame, rows: str):
    """Every number of some members' metrics is a point, with its task, once; means over the members are float32."""
    found = points(place)
    metrics = metrics.query(rows)
    measured = metrics.columns[list(metrics.columns).index("when") + 1 :]
    told = 0
    for when, table in metrics.groupby("when"):
        for name in measured:
            if name == "hessian_method":  # words
                continue
            means = table.astype({name: float}).groupby("task")[name].mean().dropna()
            expected = [(task, float(np.float32(value))) for task, value in means.items()]
            assert found.get(f"{when}/{name}", []) == [(t, pytest.approx(v, rel=2e-7)) for t, v in expected], name
            told += len(expected)
    assert sum(map(len, found.values())) == told
