"""``--dry-run``: what an experiment would cost, from a few of its own steps."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from math import prod

import torch

from fastplast import seeding
from fastplast.config import ConfigError, Experiment
from fastplast.data import Dataset, load
from fastplast.engines import missing_kernels, pull_of
from fastplast.measuring.group import measure_group
from fastplast.networks import ModuleFactory
from fastplast.problems import make_task
from fastplast.text import duration
from fastplast.training.capacity import bytes_per_member, fitting
from fastplast.training.setup import Setup, prepare

_MIN_SECONDS = 1.0  # of training that a rate is measured over


def dry_run(experiment: Experiment, memory: float | None = None) -> str:
    """Resolves an experiment, trains a few steps and measures once, without writing anything.

    Args:
        experiment: what would run.
        memory: GiB of a device, to say how many members fit it.

    Returns:
        The resolved configuration, members, parameters, memory and time, as text.

    Raises:
        ConfigError: if memory is not positive.
    """
    if memory is not None and not memory > 0:
        raise ConfigError(f"--memory must be positive: got {memory}.")
    dataset = load(experiment.dataset, experiment.data_dir)
    setup = prepare(experiment, dataset=dataset)
    e, group = setup.experiment, setup.group
    train = seconds_per_update(setup) * setup.updates
    measure = seconds_of_measuring(e, dataset)
    members = len(group.members)
    rate = members * setup.updates / train
    rows = [
        ("data", setup.dataset.source),
        ("members", f"{members}{_product(e)}"),
        ("parameters", f"{group.layout.count:,} each, {members * group.layout.count:,} in all"),
        ("updates", f"{setup.updates:,} each, {members * setup.updates:,} in all"),
        ("engine", f"{setup.engine.name} on {setup.engine.device}, {torch.get_num_threads()} threads"),
        ("memory", f"{mebibytes(_memory_bytes(setup))} for parameters, moments, targets and data"),
        *([] if memory is None else _fits(setup, memory)),
        ("time", f"about {duration(train)} of training and at most {duration(measure)} of measuring, "
         f"from {rate:,.0f} updates/s measured now"),
    ]  # fmt: skip
    return f"{json.dumps(e.to_dict(), indent=2)}\n{format_rows(rows)}"


def format_rows(rows: Iterable[tuple[str, str]]) -> str:
    """Lines of a name and what there is to say of it, below each other."""
    return "\n".join(f"{name:11} {text}" for name, text in rows)


def mebibytes(count: float) -> str:
    """Bytes as whole MiB, which can be compared at a glance."""
    return f"{count / 2**20:,.0f} MiB"


def _fits(setup: Setup, memory: float) -> list[tuple[str, str]]:
    """How many members a device of so many GiB trains at once, with this engine and with those of a GPU."""
    sizes = (setup.experiment, setup.group, setup.problem)
    on_gpu = "vmap" if missing_kernels(setup.group) else "cuda"
    return [
        ("fits", f"{fitting(*sizes, name, int(memory * 2**30)):,} members on a device of {memory:g} GiB with engine "
         f"{name}, {bytes_per_member(*sizes, name, on_gpu=True) / 2**20:,.2f} MiB each")
        for name in dict.fromkeys((setup.engine.name, on_gpu))
    ]  # fmt: skip


def _product(e: Experiment) -> str:
    if e.member_list is not None:
        return ""
    rates, strengths = len(e.learning_rate), len(e.strength or (0,))
    settings = prod(len(values) for values in dict(e.options).values())
    options = f"{settings} settings of {e.method} x " if settings > 1 else ""
    return f" = {rates} learning rates x {strengths} strengths x {options}{len(e.seed_list())} seeds"


def _memory_bytes(setup: Setup) -> int:
    """Bytes of the arena (parameters, two moments, initial values, targets) and of the data."""
    state, problem = setup.state, setup.problem
    arena = sum(t.nbytes for t in state.tensors().values()) + state.params.nbytes
    return arena + problem.images.nbytes + problem.rows.nbytes + 2 * problem.labels.nbytes


def seconds_per_update(setup: Setup) -> float:
    """Time of an update of all members together, measured after a warm-up.

    Args:
        setup: of the experiment; its state is trained on.

    Returns:
        Seconds.
    """
    e, state = setup.experiment, setup.state
    task = make_task(setup.problem, 0)
    order = torch.from_numpy(seeding.orders(setup.group.seeds, e.examples, e.batch_size, 0, 0))
    setup.engine.run(state, task, order[:, :1])
    done, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < _MIN_SECONDS:
        setup.engine.run(state, task, order[:, :4])
        done += min(4, order.shape[1])
    return (time.perf_counter() - begun) / done


def seconds_of_measuring(experiment: Experiment, dataset: Dataset, network: ModuleFactory | None = None) -> float:
    """Time of measuring all members at the start and the end of every task, from a few of them before training.

    Args:
        experiment: resolved, with the number of tasks.
        dataset: of the experiment.
        network: a factory of modules, in place of a built-in network.

    Returns:
        Seconds.
    """
    members = experiment.members()
    sample = members[:: -(-len(members) // torch.get_num_threads())]
    setup = prepare(experiment.of_members(sample), network, dataset)
    group, state, task = setup.group, setup.state, make_task(setup.problem, 0)
    pull = pull_of(group, state)

    def seconds(with_hessian: bool) -> float:
        begun = time.perf_counter()
        measure_group(
            group, state, task, pull, with_probes=True, with_hessian=with_hessian, method=experiment.srank_method
        )
        return time.perf_counter() - begun

    probes = seconds(with_hessian=False)
    times = {"off": 0, "start": 1, "both": 2}[experiment.srank]
    curvature = max(seconds(with_hessian=True) - probes, 0.0) if times else 0.0
    of_task = 2 * probes / max(experiment.probe_every, 1) + times * curvature / max(experiment.srank_every, 1)
    return of_task * (experiment.tasks or 0) * len(members) / len(sample)
