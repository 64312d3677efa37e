"""What a researcher calls from Python."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fastplast.config import ConfigError, Experiment
from fastplast.data import Dataset
from fastplast.networks import ModuleFactory
from fastplast.runs.run import Run
from fastplast.runs.writer import RunWriter
from fastplast.training.loop import Event, training
from fastplast.training.setup import Setup, prepare

if TYPE_CHECKING:
    from fastplast.sweeps.reader import Results


def train(experiment: Experiment, network: ModuleFactory | None = None, dataset: Dataset | None = None) -> Run:
    """Trains every member of an experiment and stores what was measured.

    Args:
        experiment: what to run.
        network: makes an ``nn.Module`` that maps `[B, channels, height, width]` to `[B, C]`; called once per member.
            In place of a built-in network; trained by the ``vmap`` engine.
        dataset: images in memory, in place of those that the experiment names; see ``fastplast.data.from_arrays``.

    Returns:
        The finished run.

    Raises:
        ConfigError: if parts of the experiment do not fit together.
        FileExistsError: if ``experiment.out`` exists.

    Example:
        >>> import fastplast as fp
        >>> run = fp.train(fp.Experiment(benchmark="mnist_shuffle", seeds=8))  # doctest: +SKIP
        >>> run.metrics()[["seed", "task", "when", "error", "hessian_srank"]]  # doctest: +SKIP
    """
    setup, events = start(experiment, network, dataset=dataset)
    for _ in events:
        pass
    return Run(run_directory(setup.experiment))


def resume(path: str | Path, network: ModuleFactory | None = None, dataset: Dataset | None = None) -> Run:
    """Goes on with a run that was stopped or killed, to the same bits as if it had not been.

    Args:
        path: run directory.
        network: the factory the run was started with, if it was.
        dataset: the images the run was started with, if it was.

    Returns:
        The finished run.

    Raises:
        ConfigError: if the run was made with a module and none is given.
        ValueError: if the run was made by an incompatible version, or its configuration was changed.
    """
    _, events = proceed(path, network, dataset=dataset)
    for _ in events:
        pass
    return Run(path)


def load(path: str | Path, *more: str | Path) -> Results:
    """Opens a run, a sweep or a file of exported results for reading.

    Args:
        path: run directory, sweep directory, or a file that ``fastplast export`` wrote.
        more: directories of the same sweep, from other machines.

    Returns:
        The run, the sweep, or the contents of the file.
    """
    from fastplast.sweeps.reader import open_results

    return open_results(path, *more)


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
        network: as in ``train``.
        stop: asked after every epoch; True ends training after a checkpoint.
        dataset: as in ``train``.

    Returns:
        The setup, whose experiment says where the run is, and its events.
    """
    if experiment.out is None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        experiment = dataclasses.replace(experiment, out=f"runs/{experiment.benchmark}-{experiment.method}-{stamp}")
    setup = prepare(experiment, network, dataset)
    writer = RunWriter.create(run_directory(setup.experiment), stored_config(setup), sys.argv)
    writer.write_note("data", {"dataset": setup.experiment.dataset, "source": setup.source})
    return setup, training(setup, writer, stop)


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
        network: as in ``resume``.
        stop: asked after every epoch; True ends training after a checkpoint.
        dataset: as in ``resume``.
        changes: fields of the configuration as the user would have them now; a difference is refused.

    Returns:
        The setup and its events.

    Raises:
        ConfigError: if the run was made with a module and none is given.
    """
    writer = RunWriter.open(path)
    try:
        stored = dict(writer.config)
        writer.check_resumable(stored | changes)
        name = str(stored["network"])
        if name.startswith("module:") and network is None:
            raise ConfigError(
                f"resume needs the network of the run: got none, the run was made with {name}. "
                f"Use fastplast.resume({str(path)!r}, network=...) from Python."
            )
        experiment = Experiment.from_dict(stored, f"{path}/config.json")
        setup = prepare(dataclasses.replace(experiment, out=str(path)), network, dataset)
        writer.check_resumable(stored_config(setup))
    except BaseException:
        writer.close()
        raise
    return setup, training(setup, writer, stop)


def stored_config(setup: Setup) -> dict[str, object]:
    """What ``config.json`` holds: the resolved configuration, a valid ``--config``, without the path of the run."""
    return setup.experiment.to_dict() | {"out": None, "network": setup.group.network.name}
