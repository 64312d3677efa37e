"""Starts a run or goes on with one: its directory, its setup, and the events as which it trains."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from fastplast.config import ConfigError, Experiment, check_own, defaults_of, own_of
from fastplast.config.fields import is_whole
from fastplast.data import Dataset
from fastplast.networks import ModuleFactory
from fastplast.runs.reading import check_config
from fastplast.runs.writer import RunWriter
from fastplast.training.identity import check_identity, identity_of
from fastplast.training.loop import Event, training
from fastplast.training.setup import Setup, data_name, prepare


def run_directory(experiment: Experiment) -> Path:
    """Where an experiment's run goes; always set once it has started."""
    return Path(experiment.out or ".")


def start(
    experiment: Experiment,
    network: ModuleFactory | None = None,
    stop: Callable[[], bool] = lambda: False,
    dataset: Dataset | None = None,
) -> tuple[Setup, Iterator[Event]]:
    """Makes a new run directory; training happens as the events are consumed.

    Args:
        experiment: what to run.
        network: as of ``fastplast.train``.
        stop: asked after every epoch; True ends training after a checkpoint.
        dataset: as of ``fastplast.train``.

    Returns:
        The setup, whose experiment says where the run is, and its events.
    """
    setup = prepare(experiment, network, dataset)
    identity = identity_of(setup)
    if experiment.out is None:
        out = _make_new_directory(f"runs/{_name_of(setup)}")
        setup.experiment = dataclasses.replace(setup.experiment, out=out)
    writer = RunWriter.create(run_directory(setup.experiment), stored_config(setup), sys.argv, identity)
    inputs = {"shape": list(setup.problem.shape), "classes": setup.problem.num_classes}
    try:
        writer.write_note("data", {"dataset": data_name(setup), "source": setup.dataset.source} | inputs)
    except BaseException:
        writer.close()
        raise
    return setup, training(setup, writer, stop)


def _name_of(setup: Setup) -> str:
    """What the directory of a run is called before its time: the problem, the method, and what is not the default."""
    e, network = setup.experiment, setup.group.network.name
    words = [e.benchmark, e.method]
    if network != defaults_of(e.benchmark).get("network"):
        words.append(network.removeprefix("module:").rpartition(".")[2])
    if e.activation != Experiment.__dataclass_fields__["activation"].default:
        words.append(e.activation)
    return "-".join(words)


def _make_new_directory(stem: str) -> str:
    """Makes a directory named after the time, and numbered where several begin in one second."""
    base = f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, number = base, 1
    while True:
        try:
            Path(path).mkdir(parents=True)
        except FileExistsError:
            number += 1
            path = f"{base}-{number}"
            continue
        except OSError:
            pass  # whoever writes into it says what is wrong
        return path


def proceed(
    path: str | Path,
    network: ModuleFactory | None = None,
    stop: Callable[[], bool] = lambda: False,
    dataset: Dataset | None = None,
    **changes: object,
) -> tuple[Setup, Iterator[Event]]:
    """Opens a run directory to go on with it; training happens as the events are consumed.

    Args:
        path: run directory.
        network: as of ``fastplast.resume``.
        stop: asked after every epoch; True ends training after a checkpoint.
        dataset: as of ``fastplast.resume``.
        changes: fields of the configuration as the user would have them now; a difference is refused, but for more
            tasks: the run then goes on to so many, with the results of one that had them from the start.

    Returns:
        The setup and its events.

    Raises:
        ConfigError: if the run was made with a module and none is given, or with other data or another module.
        StoreError: if its configuration is damaged.
    """
    writer = RunWriter.open(path)
    try:
        stored = dict(writer.config)
        check_config(stored, writer.run.path / "config.json")
        check_own(stored)
        tasks = _raised_tasks(changes.pop("tasks", None), stored["tasks"], path)
        experiment = Experiment.from_dict(stored, f"{path}/config.json")
        defaults = defaults_of(experiment.benchmark)
        writer.check_resumable(stored | changes, defaults=defaults)
        name = stored["network"]
        if name.startswith("module:") and network is None:
            raise ConfigError(
                f"resume needs the network of the run: got none, the run was made with {name}. "
                f"Use fastplast.resume({str(path)!r}, network=...) from Python."
            )
        setup = prepare(dataclasses.replace(experiment, out=str(writer.run.path), tasks=tasks), network, dataset)
        given = {name: value for name, value in stored_config(setup).items() if name != "own"}
        given |= {"own": stored["own"]} if "own" in stored else {}  # lines move while code is corrected
        writer.check_resumable(given | {"tasks": stored["tasks"]}, defaults=defaults)
        check_identity(setup, writer.run.identity, path)
        if tasks > stored["tasks"]:
            writer.raise_tasks(tasks)
    except BaseException:
        writer.close()
        raise
    return setup, training(setup, writer, stop)


def _raised_tasks(given: object, stored: int, path: object) -> int:
    # How many tasks a run goes on to.
    if given is None:
        return stored
    if not isinstance(given, int) or not is_whole(given) or given < stored:
        raise ConfigError(f"--tasks of a run can only be raised: got {given}, {path} has {stored}.", "tasks")
    return given


def stored_config(setup: Setup) -> dict[str, object]:
    """What ``config.json`` holds: the resolved configuration, a valid ``--config``, without the path of the run.

    Under ``own`` stands what of it was registered in this process, and where in the source.
    """
    values: dict[str, object] = {**setup.experiment.to_dict(), "network": setup.group.network.name}
    values = {name: value for name, value in values.items() if name != "out"}
    return values | ({"own": own} if (own := own_of(values)) else {})
