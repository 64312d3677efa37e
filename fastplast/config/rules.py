"""The rules that an experiment obeys. Standard library only, as `config`."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from fastplast.config import (
    BENCHMARKS,
    DATASET_NAMES,
    MEMBER_FIELDS,
    OWN_METHODS,
    ConfigError,
    Experiment,
    closest,
    flag,
    is_path,
)

# (fields, rule in words, test)
_RULES: tuple[tuple[tuple[str, ...], str, Any], ...] = (
    (
        ("tasks", "epochs", "examples", "batch_size", "srank_every", "probe_every", "threads"),
        "must be a whole number of at least 1",
        lambda v: _whole(v) and v >= 1,
    ),
    (("seed_start", "test_examples"), "must be a whole number of at least 0", lambda v: _whole(v) and v >= 0),
    (("change_first_task", "layer_norm", "epoch_curves"), "must be true or false", lambda v: isinstance(v, bool)),
    (("data_dir", "out"), "must be a path", lambda v: isinstance(v, str) and v != ""),
    (("learning_rate",), "must be positive numbers", lambda v: _numbers(v) and all(x > 0 for x in v)),
    (("strength",), "must be numbers of at least 0", lambda v: _numbers(v) and all(x >= 0 for x in v)),
    (("widths", "channels"), "must be whole numbers of at least 1",
     lambda v: isinstance(v, tuple) and len(v) > 0 and all(_whole(x) and x >= 1 for x in v)),
    (("leaky_slope", "momentum", "beta1", "beta2", "dropout"), "must be in [0, 1)",
     lambda v: _number(v) and 0 <= v < 1),
    (("weight_decay",), "must be a number of at least 0", lambda v: _number(v) and v >= 0),
    (("epsilon", "checkpoint_minutes"), "must be a positive number", lambda v: _number(v) and v > 0),
)  # fmt: skip


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _numbers(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) > 0 and all(_number(x) for x in value)


def validate(experiment: Experiment) -> None:
    """Checks every field alone, then the combinations.

    Args:
        experiment: what to check.

    Raises:
        ConfigError: with the rule, what came and what to do.
    """
    for f in dataclasses.fields(experiment):
        value, choices = getattr(experiment, f.name), f.metadata["choices"]
        custom = f.name == "network" and isinstance(value, str) and value.startswith("module:")
        undecided = value is None and f.default is None
        if f.name == "method":
            choices = (*choices, *OWN_METHODS)
        if choices and not custom and not undecided and value not in choices:
            raise ConfigError(f"{flag(f.name)} must be a known name: got {value!r}. {closest(str(value), choices)}")
    for names, rule, holds in _RULES:
        for name in names:
            value = getattr(experiment, name)
            optional = Experiment.__dataclass_fields__[name].default is None
            if not (value is None and optional) and not holds(value):
                raise ConfigError(f"{flag(name)} {rule}: got {value!r}.")
    if experiment.member_list is not None:
        _validate_members(experiment)
    else:
        _validate_seeds(experiment)
    _validate_combinations(experiment)


def _validate_members(e: Experiment) -> None:
    """Checks every member as the experiment that it would be alone.

    Raises:
        ConfigError: if one breaks a rule, or the list contradicts another field.
    """
    empty = {name: [field.default] for name, field in Experiment.__dataclass_fields__.items()}
    empty["strength"].append((0.0,))
    given = [name for name in MEMBER_FIELDS if getattr(e, name) not in empty[name]]
    if given:
        raise ConfigError(f"member_list stands in place of {flag(given[0])}: got both. Drop one of them.")
    if not e.member_list:
        raise ConfigError("member_list must hold at least one member: got none.")
    if len(set(e.member_list)) < len(e.member_list):
        raise ConfigError("member_list must not repeat a member. Drop the second of each.")
    for setting in {dataclasses.replace(member, seed=0) for member in e.member_list}:
        alone = {name: value for name, value in setting.to_dict().items() if name != "seed"}
        dataclasses.replace(e, member_list=None, **alone)
    if not all(_whole(member.seed) and member.seed >= 0 for member in e.member_list):
        raise ConfigError("member_list must have seeds that are whole numbers of at least 0.")


def _validate_seeds(e: Experiment) -> None:
    if _whole(e.seeds):
        if isinstance(e.seeds, int) and e.seeds < 1:
            raise ConfigError(f"--seeds must be a count of at least 1 or a list of seeds: got {e.seeds}.")
        return
    if not isinstance(e.seeds, tuple) or not e.seeds or not all(_whole(s) and s >= 0 for s in e.seeds):
        raise ConfigError(f"--seeds must be a count of at least 1 or a list of seeds: got {e.seeds!r}.")
    if len(set(e.seeds)) < len(e.seeds):
        raise ConfigError(f"--seeds must not repeat a seed: got {e.seeds}.")
    if e.seed_start:
        raise ConfigError("--seed-start goes with a count of seeds: got a list and --seed-start. Drop one of them.")


def _validate_combinations(e: Experiment) -> None:
    network = e.network or BENCHMARKS[e.benchmark]["network"]
    _validate_problem(e)
    if e.method == "none" and e.strength is not None and any(e.strength):
        raise ConfigError(
            f"--strength needs a --method: got --strength {e.strength} with --method none. Choose a method or drop it."
        )
    if e.method != "none" and e.strength is None:
        raise ConfigError(f"--method {e.method} needs a --strength: got none. Say for example --strength 0.01.")
    for name in ("learning_rate", "strength"):
        values = getattr(e, name)
        if values is not None and len(set(values)) < len(values):
            raise ConfigError(f"{flag(name)} must not repeat a value: got {values}.")
    if e.channels is not None and network not in ("cnn", "convnet"):
        raise ConfigError(f"--channels belongs to --network cnn: got --network {network}. Drop one of them.")
    if e.momentum and e.optimizer != "sgd":
        raise ConfigError(f"--momentum belongs to --optimizer sgd: got --optimizer {e.optimizer}. Use --beta1 instead.")
    if e.device == "cuda" and e.engine == "cpu":
        raise ConfigError("--engine cpu cannot train on --device cuda. Use --engine vmap or --device cpu.")
    if e.device == "cpu" and e.engine == "cuda":
        raise ConfigError("--engine cuda cannot train on --device cpu. Use --engine auto or --device cuda.")
    if e.tf32 and e.engine != "cuda":
        raise ConfigError(f"--tf32 belongs to --engine cuda: got --engine {e.engine}. Say --engine cuda or drop it.")
    if e.compile and e.engine != "vmap":
        raise ConfigError(f"--compile belongs to --engine vmap: got --engine {e.engine}. Say --engine vmap or drop it.")


def _validate_problem(e: Experiment) -> None:
    if e.batch_size > e.examples:
        raise ConfigError(
            f"--batch-size must not exceed --examples: got {e.batch_size} > {e.examples}. Lower --batch-size."
        )
    if e.dataset is None:
        raise ConfigError(f"--benchmark {e.benchmark} needs a --dataset: got none. {closest('', DATASET_NAMES)}")
    if not isinstance(e.dataset, str) or not (e.dataset in DATASET_NAMES or is_path(e.dataset)):
        raise ConfigError(
            f"--dataset must be a known name or a path: got {e.dataset!r}. {closest(str(e.dataset), DATASET_NAMES)} "
            "A path has a slash in it, or ends in .npz."
        )
    if e.change != "class_pairs":
        if e.test_examples:
            raise ConfigError(f"--test-examples belongs to class pairs: got --benchmark {e.benchmark}. Drop it.")
        return
    for name in ("examples", "test_examples"):
        if getattr(e, name) % 2:
            raise ConfigError(f"{flag(name)} must be even, for two classes of as many: got {getattr(e, name)}.")
