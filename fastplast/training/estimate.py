"""How long an experiment will take, from a few of its own steps."""

from __future__ import annotations

from fastplast.config import Experiment
from fastplast.data import Dataset
from fastplast.networks import ModuleFactory
from fastplast.training.dry_run import seconds_of_measuring, seconds_per_update
from fastplast.training.setup import prepare

_SAMPLE = 8  # members that a rate is measured with
# What takes less than an hour even at 18 s for measuring a member at a task, and at 18 ms for an update of a network
# of usual size, or 180 ms for one of another.
_MEASUREMENTS, _UPDATES, _UPDATES_OF_ANY_SIZE = 200, 200_000, 20_000


def may_take_an_hour(experiment: Experiment) -> bool:
    """Whether it is worth measuring how long an experiment takes; nothing is measured here.

    Args:
        experiment: what would run.

    Returns:
        False where it surely takes less than an hour.
    """
    e = experiment.resolved()
    members, tasks = len(e.members()), e.tasks or 0
    is_usual = e.widths is None and e.channels is None and e.network in ("mlp", "mlp13", "cnn")
    updates = members * tasks * e.epochs * e.steps_per_epoch()
    measurements = 0 if e.srank == "off" else members * tasks
    return measurements > _MEASUREMENTS or updates > (_UPDATES if is_usual else _UPDATES_OF_ANY_SIZE)


def estimate_seconds(experiment: Experiment, dataset: Dataset, network: ModuleFactory | None = None) -> float:
    """Time of training and measuring all members, by a sample that is spread over them; linear in members.

    Args:
        experiment: what would run.
        dataset: of the experiment.
        network: a factory of modules, in place of a built-in network.

    Returns:
        Seconds; rather too many than too few.
    """
    e = experiment.resolved()
    members = e.members()
    sample = members[:: max(1, len(members) // _SAMPLE)][:_SAMPLE]
    setup = prepare(e.of_members(sample), network, dataset)
    train = seconds_per_update(setup) * setup.updates * len(members) / len(sample)
    return train + seconds_of_measuring(e, dataset, network)
