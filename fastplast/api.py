"""What a researcher calls from Python."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fastplast.api_inputs import as_dataset, check_experiment
from fastplast.config import Experiment
from fastplast.machine.arithmetic import restored_settings
from fastplast.networks import ModuleFactory
from fastplast.progress import show
from fastplast.results import open_results
from fastplast.runs.results import Results
from fastplast.runs.run import Run
from fastplast.sweeps import Shard, Sweep, execute, grid_of, make_plan
from fastplast.training.start import proceed, run_directory, start


def train(
    experiment: Experiment, network: ModuleFactory | None = None, dataset: Any = None, *, progress: bool = True
) -> Run:
    """Trains every member of an experiment and stores what was measured.

    Args:
        experiment: what to run.
        network: makes an ``nn.Module`` that maps `[B, channels, height, width]` to `[B, C]`; called once per member.
            In place of a built-in network; trained by the ``vmap`` engine.
        dataset: images in memory, in place of those that the experiment names: a pair of arrays, a dataset of PyTorch
            or Hugging Face, or a ``fastplast.data.Dataset``.
        progress: whether to show how far it is: a bar on a terminal and in a notebook, elsewhere a line for each task.

    Returns:
        The finished run.

    Raises:
        ConfigError: if parts of the experiment do not fit together, or an option does nothing.
        TypeError: if the experiment or the dataset is none.
        FileExistsError: if ``experiment.out`` exists.

    Example:
        >>> import fastplast as fp
        >>> run = fp.train(fp.Experiment(benchmark="mnist_shuffle", seeds=8))  # doctest: +SKIP
        >>> run.metrics()[["seed", "task", "when", "error", "hessian_srank"]]  # doctest: +SKIP
    """
    check_experiment(experiment, network)
    with restored_settings():
        setup, events = start(experiment, network, dataset=as_dataset(dataset))
        for _ in show(setup, events, quiet=not progress):
            pass
    return Run(run_directory(setup.experiment))


def resume(
    path: str | Path,
    network: ModuleFactory | None = None,
    dataset: Any = None,
    *,
    tasks: int | None = None,
    progress: bool = True,
) -> Run:
    """Continues a run that was stopped or killed, with bit-identical results.

    Args:
        path: run directory.
        network: the factory the run was started with, if it was.
        dataset: the images the run was started with, if it was.
        tasks: how many the run, finished or not, is to have, if more than it was started with; the results are those
            of one that had them from the start.
        progress: as of ``train``.

    Returns:
        The finished run.

    Raises:
        ConfigError: if tasks are fewer than the run has, or it was made with a module and none is given, or with other
            data or another module.
        ValueError: if the run was made by an incompatible version, or its configuration was changed.
    """
    with restored_settings():
        setup, events = proceed(path, network, dataset=as_dataset(dataset), tasks=tasks)
        for _ in show(setup, events, quiet=not progress):
            pass
    return Run(path)


def sweep(
    grid: Mapping[str, Any] | Iterable[Mapping[str, Any]],
    out: str | os.PathLike,
    network: ModuleFactory | None = None,
    dataset: Any = None,
    *,
    part: tuple[int, int] = (0, 1),
    memory: float | None = None,
    batch: int | None = None,
    progress: bool = True,
) -> Sweep:
    """Trains every member of a grid that its directory does not hold yet.

    Args:
        grid: field of ``Experiment`` to a value or a list of values, which are crossed; or several such crosses.
        out: the sweep directory; made if there is none.
        network: as of ``train``, of every member.
        dataset: as of ``train``, of every member.
        part: i and n: train only this slice of n.
        memory: GiB that a batch may take.
        batch: most members of a batch; without it as many as `memory` holds, or else 512.
        progress: as of ``train``.

    Returns:
        The sweep, for reading.

    Raises:
        ConfigError: if the grid is bad; nothing has run then.
        Exception: that of the first batch that failed; the others are trained then.

    Example:
        >>> import fastplast as fp
        >>> grid = {"activation": ["relu", "tanh"], "method": ["none", "l2"], "strength": [0.1, 0.01], "seeds": 10}
        >>> fp.sweep(grid, "runs/mine").metrics()  # doctest: +SKIP
    """
    with restored_settings():
        plan = make_plan(
            grid_of(grid), out, part=part, memory=memory, batch=batch, network=network, dataset=as_dataset(dataset)
        )
        failed: list[tuple[Shard, Exception]] = []
        for _, setup, events in execute(plan, failed=failed, retry_failed=True):
            for _ in show(setup, events, quiet=not progress, is_part=True):
                pass
    if failed:
        raise failed[0][1]
    return Sweep(plan.directory)


def load(path: str | Path, *more: str | Path) -> Results:
    """Opens a run, a sweep or a file of exported results for reading.

    Args:
        path: run directory, sweep directory, or a file that ``fastplast export`` wrote; or the address of a run or a
            sweep in a store, such as ``s3://bucket/prefix``, of which what is new is fetched into the user's cache.
        more: directories of the same sweep, from other machines.

    Returns:
        The run, the sweep, or the contents of the file.
    """
    return open_results(path, *more)
