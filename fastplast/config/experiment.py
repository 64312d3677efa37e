"""What to run: one flat frozen dataclass, the presets of the benchmarks, and the rules a configuration obeys.

Precedence: default < preset of the benchmark < ``--config`` file < flag. Fields whose default is None take the
benchmark's own value. Standard library only, so that ``fastplast --help`` answers at once.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

ELEMENTWISE = ("relu", "leaky_relu", "tanh", "identity")
ACTIVATIONS = (*ELEMENTWISE, "crelu")
CLASS_ORDERS = ("repeat", "redraw")
DATASET_NAMES = ("mnist", "fashion_mnist", "cifar10", "imagenet32")
DEVICES = ("auto", "cpu", "cuda")
HEAD_RESETS = ("none", "zero", "reinit")
ENGINES = ("auto", "vmap", "cpu", "cuda")
INITS = ("glorot_uniform", "torch_default", "lecun_normal", "kaiming_uniform")
LABEL_SHUFFLES = ("example", "class", "iid")
METHOD_NAMES = ("none", "l2", "regenerative", "wasserstein")
OWN_METHODS: list[str] = []  # of the user: see fastplast.methods.register
NETWORK_NAMES = ("mlp", "mlp13", "cnn", "convnet")
OPTIMIZERS = ("adam", "adamw", "sgd")
PIXEL_RANGES = ("unit", "symmetric", "standardized")
REDUCTIONS = ("mean", "sum")
SRANK_METHODS = ("auto", "exact", "truncated", "lanczos")
SRANK_TIMES = ("start", "both", "off")
SUBSETS = ("per-seed", "fixed")
WEIGHT_DECAY_MODES = ("auto", "coupled", "decoupled")

# Tasks, and network: the paper's appendix B. Datasets without a row there take MNIST's. The last three are the changes
# by themselves, on any dataset: what a benchmark of another dataset than its own is called in the results.
_PAIRS = {"change": "class_pairs", "network": "convnet", "examples": 1200, "test_examples": 200, "batch_size": 100}
BENCHMARKS: dict[str, dict[str, Any]] = {
    "mnist_shuffle": {"dataset": "mnist", "change": "label_shuffle", "tasks": 100, "network": "mlp"},
    "mnist_permute": {"dataset": "mnist", "change": "pixel_permute", "tasks": 100, "network": "mlp"},
    "fashion_shuffle": {"dataset": "fashion_mnist", "change": "label_shuffle", "tasks": 100, "network": "mlp"},
    "fashion_permute": {"dataset": "fashion_mnist", "change": "pixel_permute", "tasks": 100, "network": "mlp"},
    "cifar_shuffle": {"dataset": "cifar10", "change": "label_shuffle", "tasks": 50, "network": "cnn"},
    "cifar_permute": {"dataset": "cifar10", "change": "pixel_permute", "tasks": 50, "network": "cnn"},
    "continual_imagenet": {"dataset": "imagenet32", "tasks": 500, "subset": "fixed", **_PAIRS},
    "label_shuffle": {"dataset": None, "change": "label_shuffle", "tasks": 100, "network": "mlp"},
    "pixel_permute": {"dataset": None, "change": "pixel_permute", "tasks": 100, "network": "mlp"},
    "class_pairs": {"dataset": None, "tasks": 500, **_PAIRS},
}
# What a benchmark's preset decides as soon as an experiment is made, where it does not say it itself.
_PRESET = {"dataset": None, "examples": 1280, "test_examples": 0, "batch_size": 16, "subset": "per-seed"}


class ConfigError(ValueError):
    """A configuration that breaks a rule. The text says the rule, what came, and what to do."""


def closest(name: str, known: Iterable[str]) -> str:
    """The end of an error message about an unknown name: the closest match and the list.

    Args:
        name: what came.
        known: the names there are.

    Returns:
        For example ``Did you mean 'relu'? Known: relu, tanh.``
    """
    known = list(known)
    match = difflib.get_close_matches(str(name), known, n=1)
    return (f"Did you mean {match[0]!r}? " if match else "") + f"Known: {', '.join(known)}."


def _option(default: Any, text: str, group: str, choices: tuple[str, ...] | None = None) -> Any:
    return field(default=default, metadata={"help": text, "group": group, "choices": choices})


@dataclass(frozen=True)
class Member:
    """One network of an ensemble: a seed with one setting of the per-member hyperparameters.

    Those of the optimizer that are None take the value of the experiment.
    """

    seed: int
    learning_rate: float
    method: str
    strength: float
    beta1: float | None = None
    beta2: float | None = None
    epsilon: float | None = None
    momentum: float | None = None
    weight_decay: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Field to value, without those that are None."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


# Hyperparameters of the optimizer that members of one batch may have each of their own.
MEMBER_HYPERPARAMETERS = ("beta1", "beta2", "epsilon", "momentum", "weight_decay")
# Fields of an experiment in whose place a list of members stands.
MEMBER_FIELDS = ("seeds", "seed_start", "learning_rate", "method", "strength")
STRENGTHLESS = ("none",)  # methods that take no strength


@dataclass(frozen=True)
class Experiment:
    """One experiment; every field is a flag of ``fastplast train``.

    Seeds x learning rates x strengths are the members, trained as one batch. Fields that are None take the value of
    the benchmark (``tasks``, ``network``) or of the network (``widths``, ``channels``).

    Raises:
        ConfigError: (a ValueError) if a field has a wrong type or value, or two fields contradict each other.

    Example:
        >>> Experiment(benchmark="cifar_shuffle", seeds=30).resolved().tasks
        50
    """

    benchmark: str = _option("mnist_shuffle", "the problem: dataset and change", "problem", tuple(BENCHMARKS))
    dataset: str = _option(None, f"{', '.join(DATASET_NAMES)}, a folder with one folder of images per class, or an "
                           ".npz of images and labels (default: the benchmark's)", "problem")  # fmt: skip
    tasks: int | None = _option(None, "tasks in sequence (default: the benchmark's)", "problem")
    epochs: int = _option(200, "passes over a task's examples", "problem")
    examples: int = _option(None, "examples of a task (default: 1280, or the benchmark's)", "problem")
    test_examples: int = _option(None, "examples of a task kept for its test error (default: 0, 200 of class pairs)",
                                 "problem")  # fmt: skip
    batch_size: int = _option(None, "examples of an update (default: 16, or the benchmark's)", "problem")
    class_order: str = _option("repeat", "class pairs: once all classes have come, the same pairs again, or others",
                               "problem", CLASS_ORDERS)  # fmt: skip
    label_shuffle: str = _option(
        "example", "permute labels over examples, permute class names, or redraw uniformly", "problem", LABEL_SHUFFLES
    )
    change_first_task: bool = _option(True, "shuffle or permute task 0 too", "problem")
    pixel_range: str = _option("unit", "inputs in [0, 1], in [-1, 1], or zero mean and unit variance per channel",
                               "problem", PIXEL_RANGES)  # fmt: skip
    subset: str = _option(None, "each seed draws its examples, or all take those of seed 0; of class pairs, the first "
                          "of each class (default: per-seed, or the benchmark's)", "problem", SUBSETS)  # fmt: skip
    data_dir: str | None = _option(None, "where datasets lie (default: $FASTPLAST_DATA or the platform's)", "problem")

    seeds: int | tuple[int, ...] = _option(10, "a count, or the seeds themselves: 30, or 3,7,11", "members")
    seed_start: int = _option(0, "first seed, where --seeds is a count", "members")
    learning_rate: tuple[float, ...] = _option((1e-3,), "step size; several make more members", "members")
    method: str = _option("none", "what is done against plasticity loss", "members", METHOD_NAMES)
    strength: tuple[float, ...] | None = _option(None, "of the method; several make more members", "members")
    member_list: tuple[Member, ...] | None = _option(None, "members one by one, in place of the fields above", "")
    reduction: str = _option("mean", "regularisers average over a weight matrix (paper) or sum", "members", REDUCTIONS)

    network: str | None = _option(None, "default: the benchmark's", "network", NETWORK_NAMES)
    widths: tuple[int, ...] | None = _option(None, "hidden widths of the dense layers", "network")
    channels: tuple[int, ...] | None = _option(None, "channels of the convolutions of the cnn", "network")
    activation: str = _option("relu", "of every hidden layer", "network", ACTIVATIONS)
    leaky_slope: float = _option(0.01, "negative slope of leaky_relu", "network")
    layer_norm: bool = _option(False, "layer normalisation before every hidden activation", "network")
    dropout: float = _option(0.0, "fraction of every hidden layer's activations dropped in training", "network")
    head_reset: str = _option("none", "at a task's start the last layer is set to zero, or drawn anew", "network",
                              HEAD_RESETS)  # fmt: skip
    init: str = _option("glorot_uniform", "initialisation of weights", "network", INITS)
    tf32: bool = _option(
        False, "large products of the cuda engine in TF32, 10 bits of mantissa, not in float32", "network"
    )
    compile: bool = _option(False, "gradients of the vmap engine by torch.compile, on a GPU as CUDA graphs", "network")

    optimizer: str = _option("adam", "update rule", "optimizer", OPTIMIZERS)
    beta1: float = _option(0.9, "adam: decay of the first moment", "optimizer")
    beta2: float = _option(0.999, "adam: decay of the second moment", "optimizer")
    epsilon: float = _option(1e-8, "adam: added to the root of the second moment", "optimizer")
    momentum: float = _option(0.0, "sgd: momentum", "optimizer")
    weight_decay: float = _option(0.0, "weight decay on every parameter", "optimizer")
    weight_decay_mode: str = _option("auto", "in the gradient, or apart from it (auto: apart for adamw)", "optimizer",
                                     WEIGHT_DECAY_MODES)  # fmt: skip

    srank: str = _option("start", "when the Hessian's stable rank is measured", "probes", SRANK_TIMES)
    srank_method: str = _option(
        "auto", "the cheapest that certifies, or all eigenvalues, or one certified route", "probes", SRANK_METHODS
    )
    srank_every: int = _option(1, "tasks between two measurements of the Hessian", "probes")
    epoch_curves: bool = _option(False, "also store loss, error and update norms of every epoch", "probes")
    probe_every: int = _option(1, "tasks between two measurements of weights and features", "probes")

    engine: str = _option("auto", "who trains", "machine", ENGINES)
    device: str = _option("auto", "where", "machine", DEVICES)
    threads: int | None = _option(None, "CPU threads (default: the cores this process may use)", "machine")
    overlap: bool = _option(False, "measure a task's start while the task is trained; results are the same", "machine")
    checkpoint_minutes: float = _option(5.0, "at most this long between two checkpoints", "machine")
    out: str | None = _option(None, "run directory (default: runs/<benchmark>-<method>-<time>)", "machine")

    def __post_init__(self) -> None:
        for name in ("learning_rate", "strength", "widths", "channels", "seeds"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
            elif isinstance(value, (int, float)) and not isinstance(value, bool) and name != "seeds":
                object.__setattr__(self, name, (value,))
        preset = BENCHMARKS.get(self.benchmark, {}) if isinstance(self.benchmark, str) else {}
        for name, usual in _PRESET.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, preset.get(name, usual))
        for name in ("data_dir", "out", "dataset"):
            if isinstance(value := getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(value))
        if self.member_list is not None:
            object.__setattr__(self, "member_list", _members(self.member_list))
        from fastplast.config.rules import validate  # which needs this module

        validate(self)

    def resolved(self) -> Experiment:
        """The same experiment with every field that the benchmark decides filled in.

        On another dataset than the benchmark's own, it is called by what changes: ``class_pairs`` of ``cifar10`` is no
        ``continual_imagenet``.
        """
        preset = BENCHMARKS[self.benchmark]
        changes: dict[str, Any] = {n: preset[n] for n in ("tasks", "network") if getattr(self, n) is None}
        if self.dataset != preset["dataset"]:
            changes["benchmark"] = preset["change"]
        if self.strength is None and self.member_list is None:
            changes["strength"] = (0.0,)
        return dataclasses.replace(self, **changes)

    @property
    def change(self) -> str:
        """What changes from task to task."""
        return BENCHMARKS[self.benchmark]["change"]

    @property
    def decoupled(self) -> bool:
        """Whether weight decay is applied apart from the gradient."""
        return self.optimizer == "adamw" if self.weight_decay_mode == "auto" else self.weight_decay_mode == "decoupled"

    def seed_list(self) -> tuple[int, ...]:
        """The seeds themselves."""
        if isinstance(self.seeds, int):
            return tuple(range(self.seed_start, self.seed_start + self.seeds))
        return self.seeds

    def members(self) -> tuple[Member, ...]:
        """Every combination of learning rate, strength and seed, the seed varying fastest; or those of the list."""
        if self.member_list is not None:
            return self.member_list
        grid = product(self.learning_rate, self.strength or (0.0,), self.seed_list())
        return tuple(Member(seed, rate, self.method, strength) for rate, strength, seed in grid)

    def of_members(self, members: Iterable[Member]) -> Experiment:
        """The same experiment with members one by one.

        Args:
            members: in order.

        Returns:
            The experiment.
        """
        defaults = {f.name: f.default for f in dataclasses.fields(self) if f.name in MEMBER_FIELDS}
        return dataclasses.replace(self, **defaults, member_list=tuple(members))

    def steps_per_epoch(self) -> int:
        """Updates of one epoch; the last batch may be smaller."""
        return math.ceil(self.examples / self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary that ``from_dict`` reads back."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        for name in ("tf32", "compile"):
            if not values[name]:  # so that what was stored before there was the field is the same configuration
                del values[name]
        if self.member_list is None:
            del values["member_list"]
        else:
            values = {k: v for k, v in values.items() if k not in MEMBER_FIELDS}
            values["member_list"] = [member.to_dict() for member in self.member_list]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str = "configuration") -> Experiment:
        """Reads a dictionary, refusing unknown keys.

        Args:
            values: field to value; lists stand for tuples.
            where: what to call the source in an error.

        Returns:
            The experiment.

        Raises:
            ConfigError: if a key is unknown or a value breaks a rule.
        """
        names = [f.name for f in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                raise ConfigError(f"{where} has an unknown key: got {key!r}. {closest(key, names)}")
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}" if where != "configuration" else str(error)) from None


def load_config(path: str | Path) -> dict[str, Any]:
    """Reads a ``--config`` file: JSON, for example the ``config.json`` of a run.

    Args:
        path: the file.

    Returns:
        Field to value, unchecked.

    Raises:
        ConfigError: if the file is missing, is not JSON, or is not an object.
    """
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config must be a readable file: got {path} ({error.strerror}).") from None
    except ValueError as error:
        raise ConfigError(f"--config must be JSON: got {path} ({error}).") from None
    if not isinstance(values, dict):
        raise ConfigError(f"--config must hold a JSON object: got {type(values).__name__} in {path}.")
    return values


def _members(values: Any) -> tuple[Member, ...]:
    """Members from what a file holds: dictionaries.

    Raises:
        ConfigError: if a dictionary is no member.
    """
    if not isinstance(values, (list, tuple)):
        raise ConfigError(f"member_list must be a list: got {values!r}. Give a dictionary for each member.")
    names, members = [f.name for f in dataclasses.fields(Member)], []
    for value in values:
        if isinstance(value, dict):
            for name in value:
                if name not in names:
                    raise ConfigError(f"member_list has an unknown key: got {name!r}. {closest(name, names)}")
            if not set(names[:4]) <= set(value):
                raise ConfigError(f"member_list needs {', '.join(names[:4])} of each member: got {value!r}.")
            value = Member(**value)
        if not isinstance(value, Member):
            raise ConfigError(f"member_list must hold dictionaries: got {value!r}.")
        members.append(value)
    return tuple(members)


def flag(name: str) -> str:
    """The command-line flag of a field."""
    return "--" + name.replace("_", "-")


def is_path(dataset: str) -> bool:
    """Whether a dataset is a place of the user's and no name."""
    return "/" in dataset or os.sep in dataset or dataset.endswith(".npz")
