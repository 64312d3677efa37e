"""What to run: one flat frozen dataclass, in Python, in files and on the command line.

Precedence: default < preset of the benchmark < ``--config`` file < flag. Fields whose default is None take the
benchmark's own value. Standard library only, so that ``fastplast --help`` answers at once.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

from fastplast.config.errors import ConfigError, shown
from fastplast.config.fields import AT_LEAST_ZERO, CHOICES, FRACTION, POSITIVE, as_known, as_plain, check_fields, option
from fastplast.config.method_options import all_options, option_fields
from fastplast.config.names import (
    ACTIVATIONS,
    BENCHMARKS,
    DATASET_NAMES,
    ENGINE_OF,
    INITS,
    LOSSES,
    MEMBER_FIELDS,
    METHOD_NAMES,
    METRIC_NAMES,
    MODULE_NETWORKS,
    NETWORK_NAMES,
    OPTIMIZERS,
    OTHER_FIELDS,
    PRESET_FIELDS,
    VMAP_ACTIVATIONS,
)
from fastplast.config.rules import check_combinations
from fastplast.text import closest

T = TypeVar("T")


@dataclass(frozen=True)
class Member:
    """One network of an ensemble: a seed with one setting of the per-member hyperparameters.

    Those of the optimizer that are None take the value of the experiment. The options are all hyperparameters of the
    method: those that are not given are its defaults.
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
    options: tuple[tuple[str, Any], ...] | Mapping[str, Any] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", as_known("method", self.method))
        object.__setattr__(self, "options", all_options(self.method, self.options, several=False))

    def to_dict(self) -> dict[str, Any]:
        """Field to value, without those that are None, and without options where the method has none."""
        values = {name: value for name, value in vars(self).items() if value is not None and name != "options"}
        return values | ({"options": dict(self.options)} if self.options else {})


def _refusing_unknown_fields(cls: type[T]) -> type[T]:
    """A dataclass whose error about an unknown field names the field that is meant."""
    fields, init = [f.name for f in dataclasses.fields(cls)], cls.__init__  # pyright: ignore[reportArgumentType]

    @functools.wraps(init)
    def checked(self: T, *values: Any, **given: Any) -> None:
        for name in given:
            if name not in fields:
                is_option = name in (field for field, _, _ in option_fields())
                mend = f"Hyperparameters of methods are in options={{{name!r}: ...}}." if is_option else ""
                raise TypeError(
                    f"{cls.__name__} has no field {name!r}. {mend or closest(OTHER_FIELDS.get(name, name), fields)}"
                )
        init(self, *values, **given)

    cls.__init__ = checked
    return cls


@_refusing_unknown_fields
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

    benchmark: str = option("mnist_shuffle", "the problem: dataset and change", "problem", tuple(BENCHMARKS))
    dataset: str = option(None, f"{', '.join(DATASET_NAMES)}, a folder with one folder of images per class, or an "
                          ".npz of images and labels (default: the benchmark's)", "problem", rule=None)  # fmt: skip
    tasks: int | None = option(None, "tasks in sequence (default: the benchmark's)", "problem")
    epochs: int = option(None, "passes over a task's examples (default: 200, or the benchmark's)", "problem")
    examples: int = option(None, "examples of a task (default: 1280, or the benchmark's)", "problem")
    test_examples: int = option(None, "examples of a task that are not trained on, for its test error (default: 0, 200 "
                                "of class pairs)", "problem", rule=AT_LEAST_ZERO)  # fmt: skip
    batch_size: int = option(None, "examples of an update (default: 16, or the benchmark's)", "problem")
    class_order: str = option("repeat", "class pairs: once all classes have come, the same pairs again, or others",
                              "problem", ("repeat", "redraw"))  # fmt: skip
    new_classes: int = option(2, "class incremental: classes that a task adds", "problem")
    drift_tasks: int = option(10, "label drift: tasks from one shuffle to the next", "problem")
    label_shuffle: str = option("example", "permute labels over examples, permute class names, or redraw uniformly",
                                "problem", ("example", "class", "iid"))  # fmt: skip
    change_first_task: bool = option(True, "shuffle or permute task 0 too", "problem")
    pixel_range: str = option("unit", "inputs in [0, 1], in [-1, 1], or zero mean and unit variance per channel",
                              "problem", ("unit", "symmetric", "standardized"))  # fmt: skip
    subset: str = option(None, "each seed draws its examples, or all take those of seed 0; of class pairs, the first "
                         "of each class (default: per-seed, or the benchmark's)", "problem",
                         ("per-seed", "fixed"))  # fmt: skip
    data_dir: str | None = option(None, "where datasets lie (default: $FASTPLAST_DATA or the platform's)", "problem")

    seeds: int | tuple[int, ...] = option(10, "a count, or the seeds themselves: 30, or 3,7,11", "members", rule=None)
    seed_start: int = option(0, "first seed, where --seeds is a count", "members", rule=AT_LEAST_ZERO)
    learning_rate: tuple[float, ...] = option((1e-3,), "step size; several make more members", "members", rule=POSITIVE)
    method: str = option("none", "what is done against plasticity loss", "members", METHOD_NAMES)
    strength: tuple[float, ...] | None = option(
        None, "strength of the method; several make more members", "members", rule=AT_LEAST_ZERO
    )
    options: tuple[tuple[str, Any], ...] | Mapping[str, Any] = option(
        (), "hyperparameters of the method, each a value or several, which make more members", "", rule=None
    )
    member_list: tuple[Member, ...] | None = option(
        None, "members one by one, in place of the fields above", "", rule=None
    )
    reduction: str = option(
        "mean", "regularisers average over a weight matrix (paper) or sum", "members", ("mean", "sum")
    )

    network: str | None = option(None, "the architecture (default: the benchmark's)", "network",
                                 (*NETWORK_NAMES, *MODULE_NETWORKS))  # fmt: skip
    widths: tuple[int, ...] | None = option(None, "hidden widths of the dense layers", "network")
    channels: tuple[int, ...] | None = option(None, "channels of the convolutions of the cnn", "network")
    activation: str = option("relu", "of every hidden layer", "network", (*ACTIVATIONS, *VMAP_ACTIVATIONS))
    leaky_slope: float = option(0.01, "negative slope of leaky_relu", "network", rule=FRACTION)
    layer_norm: bool = option(False, "layer normalisation before every hidden activation", "network")
    dropout: float = option(
        0.0, "fraction of every hidden layer's activations dropped in training", "network", rule=FRACTION
    )
    head_reset: str = option("none", "at a task's start the last layer is set to zero, or drawn anew", "network",
                             ("none", "zero", "reinit"))  # fmt: skip
    init: str = option("glorot_uniform", "initialisation of weights", "network", INITS)
    tf32: bool = option(
        False, "large products of the cuda engine in TF32, 10 bits of mantissa, not in float32", "network"
    )
    compile: bool = option(False, "gradients of the vmap engine by torch.compile, on a GPU as CUDA graphs", "network")

    optimizer: str = option("adam", "update rule", "optimizer", OPTIMIZERS)
    beta1: float = option(0.9, "adam: decay of the first moment", "optimizer", rule=FRACTION)
    beta2: float = option(0.999, "adam: decay of the second moment", "optimizer", rule=FRACTION)
    epsilon: float = option(1e-8, "adam: added to the root of the second moment", "optimizer", rule=POSITIVE)
    momentum: float = option(0.0, "sgd: momentum", "optimizer", rule=FRACTION)
    weight_decay: float = option(0.0, "weight decay on every parameter", "optimizer", rule=AT_LEAST_ZERO)
    weight_decay_mode: str = option("auto", "in the gradient, or apart from it (auto: apart for adamw)", "optimizer",
                                    ("auto", "coupled", "decoupled"))  # fmt: skip

    optimizer_reset: str = option(
        "none",
        "at a change of task adam counts its updates anew (step), and moments become zero as well (moments)",
        "optimizer",
        ("none", "moments", "step"),
    )

    srank: str = option("start", "when the Hessian's stable rank is measured", "probes", ("start", "both", "off"))
    srank_method: str = option("auto", "the cheapest that certifies, or all eigenvalues, or one certified route",
                               "probes", ("auto", "exact", "truncated", "lanczos"))  # fmt: skip
    srank_every: int = option(1, "tasks between two measurements of the Hessian", "probes")
    epoch_curves: bool = option(False, "also store loss, error and update norms of every epoch", "probes")
    earlier_tasks: int = option(0, "so many tasks before the present one on which the error is measured at its end",
                                "probes", rule=AT_LEAST_ZERO)  # fmt: skip
    keep_weights: str = option("none", "store weights at the start of task 0 and the end of every task, or at each "
                               "task's start and each epoch's end too", "probes", ("none", "tasks", "all"))  # fmt: skip
    probe_every: int = option(1, "tasks between two measurements of weights and features", "probes")
    metrics: tuple[str, ...] = option((), "what else is measured then", "probes", METRIC_NAMES)

    engine: str = option("auto", "what executes the updates", "machine", ("auto", "vmap", "cpu", "cuda"))
    device: str = option("auto", "the processor that trains; cuda:1 is the second GPU", "machine",
                         ("auto", "cpu", "cuda"))  # fmt: skip
    threads: int | None = option(None, "CPU threads (default: the cores this process may use)", "machine")
    overlap: bool = option(False, "measure a task's start while the task is trained; results are the same", "machine")
    checkpoint_minutes: float = option(5.0, "at most this long between two checkpoints", "machine", rule=POSITIVE)
    out: str | None = option(None, "run directory (default: runs/<benchmark>-<method>-<time>)", "machine")

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):  # of a large grid there are many experiments: defaults are passed over
            if (value := getattr(self, f.name)) is not f.default:
                object.__setattr__(self, f.name, as_known(f.name, as_plain(value)))
        for name in ("learning_rate", "strength", "widths", "channels", "seeds", "metrics"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
            elif isinstance(value, str if name == "metrics" else (int, float)) and not isinstance(value, bool):
                object.__setattr__(self, name, value if name == "seeds" else (value,))
        preset = BENCHMARKS.get(self.benchmark, {}) if isinstance(self.benchmark, str) else {}
        for name, usual in PRESET_FIELDS.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, preset.get(name, usual))
        for name in ("data_dir", "out", "dataset"):
            if isinstance(value := getattr(self, name), os.PathLike):
                object.__setattr__(self, name, os.fspath(value))
        if isinstance(self.out, str):
            object.__setattr__(self, "out", os.path.expanduser(self.out))
        if self.member_list is not None:
            object.__setattr__(self, "member_list", _members(self.member_list))
        check_fields(self)
        object.__setattr__(self, "options", all_options(self.method, self.options, several=True))
        check_combinations(self)

    def resolved(self) -> Experiment:
        """The same experiment with every field that the benchmark decides filled in.

        On another dataset than the benchmark's own, it is called by what changes: ``class_pairs`` of ``cifar10`` is no
        ``continual_imagenet``.
        """
        preset = BENCHMARKS[self.benchmark]
        changes: dict[str, Any] = {n: preset[n] for n in ("tasks", "network") if getattr(self, n) is None}
        if self.widths is None and self.network in (None, preset["network"]) and "widths" in preset:
            changes["widths"] = preset["widths"]
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
    def loss(self) -> str:
        """``cross_entropy``, or ``mse`` where labels are numbers."""
        return BENCHMARKS[self.benchmark].get("loss", LOSSES[0])

    @property
    def outputs(self) -> int | None:
        """Of a network; None for one for each class of the dataset."""
        return BENCHMARKS[self.benchmark].get("outputs")

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
        """Every combination of learning rate, strength, options and seed, the seed fastest; or those of the list."""
        if self.member_list is not None:
            return self.member_list
        names, values = dict(self.options).keys(), dict(self.options).values()
        grid = product(self.learning_rate, self.strength or (0.0,), product(*values), self.seed_list())
        return tuple(
            Member(seed, rate, self.method, strength, options=tuple(zip(names, own)))
            for rate, strength, own, seed in grid
        )

    def of_members(self, members: Iterable[Member]) -> Experiment:
        """The same experiment with members one by one.

        Args:
            members: in order.

        Returns:
            The experiment.
        """
        defaults = {f.name: f.default for f in dataclasses.fields(self) if f.name in MEMBER_FIELDS}
        return dataclasses.replace(self, **defaults, member_list=tuple(members))

    def with_checked_members(self, members: Iterable[Member], out: str) -> Experiment:
        """The same experiment with members one by one, of which each was checked before: of a large grid they are many.

        Args:
            members: in order.
            out: its run directory.

        Returns:
            The experiment.
        """
        changed = copy.copy(self)
        object.__setattr__(changed, "member_list", tuple(members))
        object.__setattr__(changed, "out", out)
        return changed

    def steps_per_epoch(self) -> int:
        """Updates of one epoch; the last batch may be smaller."""
        return math.ceil(self.examples / self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary that ``from_dict`` reads back.

        How to compute, and what older versions did not have, is left out where it is the default.
        """
        values = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in LEFT_OUT or getattr(self, f.name) != f.default
        }
        if self.options:
            values["options"] = {name: list(own) for name, own in dict(self.options).items()}
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
        values = {name: value for name, value in values.items() if name != "own"}  # where things were registered
        names = [f.name for f in dataclasses.fields(cls)]
        for key in values:
            if key not in names:
                raise ConfigError(f"{where} has an unknown key: got {shown(key)}. {closest(key, names)}", key)
        try:
            return cls(**values)
        except ConfigError as error:
            text = f"{where}: {error}" if where != "configuration" else str(error)
            raise ConfigError(text, *error.fields) from None


CHOICES |= {f.name: f.metadata["choices"] for f in dataclasses.fields(Experiment) if f.metadata["choices"]}
# Where and with what members are trained: of all of them, and no part of what they are.
MACHINE_FIELDS = tuple(f.name for f in dataclasses.fields(Experiment) if f.metadata["group"] == "machine")
_YOUNGER = ("options", "optimizer_reset", "metrics", "new_classes", "drift_tasks", "earlier_tasks", "keep_weights")
LEFT_OUT = (*MACHINE_FIELDS, *ENGINE_OF, *_YOUNGER)


def _members(values: Any) -> tuple[Member, ...]:
    # Members from what a file holds: dictionaries.
    if not isinstance(values, (list, tuple)):
        raise ConfigError(f"member_list must be a list: got {shown(values)}. Give a dictionary for each member.")
    names, members = [f.name for f in dataclasses.fields(Member)], []
    for value in values:
        if isinstance(value, dict):
            for name in value:
                if name not in names:
                    raise ConfigError(f"member_list has an unknown key: got {shown(name)}. {closest(name, names)}")
            if not set(names[:4]) <= set(value):
                raise ConfigError(f"member_list needs {', '.join(names[:4])} of each member: got {shown(value)}.")
            value = Member(**value)
        if not isinstance(value, Member):
            raise ConfigError(f"member_list must hold dictionaries: got {shown(value)}.")
        members.append(value)
    return tuple(members)
