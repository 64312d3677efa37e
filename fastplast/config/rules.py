"""The rules that fields of an experiment obey together; each is checked by itself before."""

from __future__ import annotations

import dataclasses
from math import prod
from typing import Any

from fastplast.config.errors import ConfigError, flag, shown
from fastplast.config.fields import is_whole
from fastplast.config.names import (
    BENCHMARKS,
    DATASET_NAMES,
    ENGINE_OF,
    MEMBER_FIELDS,
    NETWORK_NAMES,
    TAKES_STRENGTH,
    is_path,
)
from fastplast.config.own import known_names
from fastplast.text import closest

MOST_MEMBERS = 1_000_000  # of an experiment, and of a grid
_MOST_UPDATES = 10**13
_MOST_THREADS = 4096


def check_combinations(experiment: Any) -> None:
    """Checks which members there are, and what contradicts what.

    Args:
        experiment: an ``Experiment``, whose module imports this one.

    Raises:
        ConfigError: with the rule, what came and what to do.
    """
    if experiment.member_list is not None:
        _check_members(experiment)
    else:
        _check_seeds(experiment)
        _check_count(experiment)
    _check_problem(experiment)
    _check_settings(experiment)
    _check_machine(experiment)
    _check_time(experiment)


def _check_members(e: Any) -> None:
    # Checks every member as the experiment that it would be alone.
    empty = {f.name: [f.default] for f in dataclasses.fields(e)}
    empty["strength"].append((0.0,))
    given = [name for name in MEMBER_FIELDS if getattr(e, name) not in empty[name]]
    if given:
        raise ConfigError(f"member_list stands in place of {flag(given[0])}: got both. Drop one of them.", given[0])
    if not e.member_list:
        raise ConfigError("member_list must hold at least one member: got none.")
    try:
        is_repeated = len(set(e.member_list)) < len(e.member_list)
    except TypeError:
        raise ConfigError("member_list must hold a number or a name in each field: got a list or a table.") from None
    if is_repeated:
        raise ConfigError("member_list must not repeat a member. Drop the second of each.")
    for setting in {dataclasses.replace(member, seed=0) for member in e.member_list}:
        alone = {name: value for name, value in setting.to_dict().items() if name != "seed"}
        dataclasses.replace(e, member_list=None, **alone)
    if not all(is_whole(member.seed) and member.seed >= 0 for member in e.member_list):
        raise ConfigError("member_list must have seeds that are whole numbers of at least 0.")


def _listed(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _check_seeds(e: Any) -> None:
    if is_whole(e.seeds) and e.seeds >= 1:
        if e.seed_start + e.seeds > 2**63:
            raise ConfigError(
                f"--seed-start must leave room for --seeds below 2^63: got {e.seed_start} and {e.seeds}. Lower it.",
                "seed_start",
                "seeds",
            )
        return
    if not isinstance(e.seeds, tuple) or not e.seeds or not all(is_whole(seed) and seed >= 0 for seed in e.seeds):
        below = ", below 2^63" if any(type(x) is int and x >= 2**63 for x in _listed(e.seeds)) else ""
        raise ConfigError(
            f"--seeds must be a count of at least 1 or a list of seeds{below}: got {shown(e.seeds)}.", "seeds"
        )
    if len(set(e.seeds)) < len(e.seeds):
        raise ConfigError(f"--seeds must not repeat a seed: got {shown(e.seeds)}.", "seeds")
    if e.seed_start:
        raise ConfigError(
            "--seed-start goes with a count of seeds: got a list and --seed-start. Drop one of them.", "seed_start"
        )


def count_members(e: Any) -> int:
    """How many members an experiment has, without making them.

    Args:
        e: an ``Experiment``.

    Returns:
        M.
    """
    if e.member_list is not None:
        return len(e.member_list)
    seeds = e.seeds if is_whole(e.seeds) else len(e.seeds)
    options = (len(values) if isinstance(values, tuple) else 1 for values in dict(e.options).values())
    return seeds * len(e.learning_rate) * len(e.strength or (0.0,)) * prod(options)


def _check_count(e: Any) -> None:
    count = count_members(e)
    if count > MOST_MEMBERS:
        raise ConfigError(
            f"an experiment must have at most {MOST_MEMBERS:,} members: got {count:,}. Use fewer --seeds or values.",
            "seeds",
        )


def _check_time(e: Any) -> None:
    tasks = e.tasks or BENCHMARKS[e.benchmark]["tasks"]
    updates = tasks * e.epochs * e.steps_per_epoch()
    if updates > _MOST_UPDATES:
        raise ConfigError(
            f"--tasks, --epochs and --examples must make at most {_MOST_UPDATES:,} updates: got {updates:,}, "
            f"which take {updates / 1e6 / 31_557_600:,.0f} years at a microsecond each. Lower one of them.",
            "tasks",
            "epochs",
            "examples",
        )
    if e.threads is not None and e.threads > _MOST_THREADS:
        raise ConfigError(f"--threads must be at most {_MOST_THREADS:,}: got {e.threads:,}. Lower it.", "threads")


def _check_problem(e: Any) -> None:
    if e.batch_size > e.examples:
        raise ConfigError(
            f"--batch-size must not exceed --examples: got {e.batch_size} > {e.examples}. Lower --batch-size.",
            "batch_size",
            "examples",
        )
    known = known_names("dataset", DATASET_NAMES)
    if e.dataset is None:
        raise ConfigError(
            f"--benchmark {e.benchmark} needs a --dataset: got none. {closest('', known)}",
            "benchmark",
            "dataset",
        )
    if not isinstance(e.dataset, str) or not (e.dataset in known or is_path(e.dataset)):
        raise ConfigError(
            f"--dataset must be a known name or a path: got {shown(e.dataset)}. {closest(shown(e.dataset), known)} "
            "A path has a slash in it, or ends in .npz.",
            "dataset",
        )
    if e.test_examples and not (holds_out(e.change) or "test_examples" in BENCHMARKS[e.benchmark]):
        raise ConfigError(
            f"--test-examples belongs to problems of labelled images: got --benchmark {e.benchmark}. Drop it.",
            "test_examples",
            "benchmark",
        )
    for name in ("examples", "test_examples") if e.change == "class_pairs" else ():
        if getattr(e, name) % 2:
            raise ConfigError(f"{flag(name)} must be even, for two classes of as many: got {getattr(e, name)}.", name)


def holds_out(change: str) -> bool:
    """Whether a change goes over to images that are not trained on: of labels, and of pixels."""
    return change in ("label_shuffle", "label_drift", "pixel_permute")


def _check_settings(e: Any) -> None:
    # Method, learning rates, network, optimizer.
    if not TAKES_STRENGTH[e.method] and any(e.strength or ()):
        raise ConfigError(
            f"--strength needs a --method: got --strength {shown(e.strength)} with --method {e.method}. "
            "Choose a method or drop it.",
            "strength",
            "method",
        )
    if TAKES_STRENGTH[e.method] and e.strength is None:
        raise ConfigError(
            f"--method {e.method} needs a --strength: got none. Say for example --strength 0.01.", "method", "strength"
        )
    for name in ("learning_rate", "strength"):
        values = getattr(e, name)
        if values is not None and len(set(values)) < len(values):
            raise ConfigError(f"{flag(name)} must not repeat a value: got {shown(values)}.", name)
    if e.method == "upgd" and (e.optimizer != "sgd" or e.momentum):
        raise ConfigError(
            f"--method upgd is an update rule of its own: got --optimizer {e.optimizer}, --momentum {e.momentum:g}. "
            "Use --optimizer sgd without momentum.",
            "method",
            "optimizer",
        )
    if e.method == "c_chain" and e.loss != "cross_entropy":
        raise ConfigError(
            f"--method c_chain needs classes: got --benchmark {e.benchmark}, whose labels are numbers. Use another "
            "method.",
            "method",
            "benchmark",
        )
    if e.method == "nap" and not e.layer_norm:
        raise ConfigError("--method nap needs --layer-norm: got none. Add --layer-norm.", "method", "layer_norm")
    network = e.network or BENCHMARKS[e.benchmark]["network"]
    if not network.startswith("module:") and network not in NETWORK_NAMES:
        for name in ("widths", "activation", "leaky_slope", "layer_norm", "dropout", "head_reset", "init"):
            if getattr(e, name) != e.__dataclass_fields__[name].default:
                raise ConfigError(
                    f"{flag(name)} belongs to a network of layers: got it with --network {network}. Drop one of them.",
                    name,
                    "network",
                )
    if e.channels is not None and network not in ("cnn", "convnet"):
        raise ConfigError(
            f"--channels belongs to --network cnn: got --network {network}. Drop one of them.", "channels", "network"
        )
    if e.momentum and e.optimizer in ("adam", "adamw"):
        raise ConfigError(
            f"--momentum belongs to --optimizer sgd: got --optimizer {e.optimizer}. Use --beta1 instead.",
            "momentum",
            "optimizer",
        )


def _check_machine(e: Any) -> None:
    for engine, device, advice in (
        ("cpu", "cuda", "Use --engine vmap or --device cpu."),
        ("cuda", "cpu", "Use --engine auto or --device cuda."),
    ):
        if (e.engine, e.device.split(":")[0]) == (engine, device):
            raise ConfigError(f"--engine {engine} cannot train on --device {device}. {advice}", "engine", "device")
    for name, engine in ENGINE_OF.items():
        if getattr(e, name) and e.engine != engine:
            raise ConfigError(
                f"--{name} belongs to --engine {engine}: got --engine {e.engine}. Say --engine {engine} or drop it.",
                name,
                "engine",
            )
