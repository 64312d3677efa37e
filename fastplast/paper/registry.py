"""The figures: what each shows and what it needs. Numbers follow the order of the paper's text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastplast.config import ConfigError
from fastplast.paper.studies import Use


@dataclass(frozen=True)
class Curves:
    """Metrics over tasks: a row of panels for each metric, a column for each value of the panels' fields.

    Attributes:
        columns: metrics, with ``@start`` or ``@end`` where they have both.
        lines: the field that tells lines apart.
        panels: fields that tell panels apart.
        log: whether vertical axes are logarithmic.
    """

    columns: tuple[str, ...]
    lines: str = "activation"
    panels: tuple[str, ...] = ()
    log: bool = False


@dataclass(frozen=True)
class Explanations:
    """Each explanation's mean over tasks against J_K, and below it over tasks."""

    names: tuple[str, ...]
    lines: str = "activation"


@dataclass(frozen=True)
class StartEnd:
    """A metric at task end against the same at task start, and both over tasks."""

    column: str = "hessian_srank"
    lines: str = "activation"


@dataclass(frozen=True)
class Sensitivity:
    """J_K against the strength of every method."""

    panels: tuple[str, ...] = ("reduction", "learning_rate")
    lines: str = "method"


@dataclass(frozen=True)
class Scores:
    """Correlation of every explanation with J_K, and its consistency."""

    lines: str = "activation"


Drawing = Curves | Explanations | StartEnd | Sensitivity | Scores


@dataclass(frozen=True)
class Figure:
    """A figure of the paper.

    Attributes:
        number: from 1.
        section: of the paper that it belongs to.
        shows: a line of text.
        uses: the runs that it is drawn from.
        drawing: how.
        where: field to the values that are drawn; of results that hold more, the rest is left out.
        alternative: runs that take the place of `uses` where the data of these is not on this machine.
    """

    number: int
    section: str
    shows: str
    uses: tuple[Use, ...]
    drawing: Drawing
    where: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    alternative: tuple[Use, ...] = ()


_NONE = {"method": ("none",)}
_EARLIER = ("update_norm", "weight_norm", "weight_srank", "feature_srank", "activation_entropy", "dormant_fraction")
_BOTH = ("error", "hessian_srank")
_ALL = ("mnist_shuffle", "mnist_permute", "cifar_shuffle", "cifar_permute")
_FOUR = (Use("activations-mnist_shuffle"),)
_RELU = {"activation": "relu"}
_REDUCTIONS = ("activation", "reduction")


def _regularised(benchmark: str, activations: tuple[str, ...], seeds: tuple[int, int] | None = (13, 5)) -> tuple:
    only = {"activation": activations}
    return (Use(f"activations-{benchmark}", only, seeds), Use(f"regularisers-{benchmark}", only))


def _pairs(kind: str, data: str) -> tuple[Use, ...]:
    uses = (Use(f"activations-{data}", _RELU if kind == "regularisers" else {}),)
    return (*uses, Use(f"regularisers-{data}", _RELU)) if kind == "regularisers" else uses


def _problems() -> list[Figure]:
    """What figures 1 to 5 show, of the three other problems."""
    found = []
    for i, name in enumerate(_ALL[1:]):
        uses = (Use(f"activations-{name}"),)
        found += [
            Figure(13 + 2 * i, "C.3", "task-end error and Hessian stable rank, by activation",
                   uses, Curves(_BOTH), _NONE),
            Figure(14 + 2 * i, "C.3", "earlier explanations of plasticity loss against J_K, and over tasks",
                   uses, Explanations(_EARLIER), _NONE),
            Figure(19 + i, "C.3", "regularisers: task-end error and Hessian stable rank",
                   _regularised(name, ("relu", "tanh")), Curves(_BOTH, "method", _REDUCTIONS),
                   {"activation": ("relu", "tanh")}),
        ]  # fmt: skip
    return found


_LISTED = [
    Figure(1, "3", "task-end error over tasks, by activation",
           _FOUR, Curves(("error",)), _NONE),
    Figure(2, "3", "earlier explanations of plasticity loss against J_K, and over tasks",
           _FOUR, Explanations(_EARLIER), _NONE),
    Figure(3, "4", "Hessian stable rank at task start beside the task-end error, by activation",
           _FOUR, Curves(("hessian_srank@start", "error")), _NONE),
    Figure(4, "6", "regularisers: task-end error over tasks, by activation and reduction",
           _regularised("mnist_shuffle", ("relu", "tanh")), Curves(("error",), "method", _REDUCTIONS),
           {"activation": ("relu", "tanh")}),
    Figure(5, "6", "regularisers: Hessian stable rank at task start, by activation and reduction",
           _regularised("mnist_shuffle", ("relu", "tanh")), Curves(("hessian_srank@start",), "method", _REDUCTIONS),
           {"activation": ("relu", "tanh")}),
    Figure(6, "6", "sensitivity: J_K against strength, ReLU, by step size and reduction",
           _regularised("mnist_shuffle", ("relu",)), Sensitivity(), {"activation": ("relu",)}),
    Figure(7, "6.2", "gradient-Hessian overlap and Hessian stable rank at task end beside the start",
           _FOUR, Curves(("hessian_overlap@start", "hessian_overlap@end", "hessian_srank@start", "hessian_srank@end")),
           _NONE),
    Figure(8, "6", "four problems: error and Hessian stable rank by method, ReLU",
           tuple(use for name in _ALL for use in _regularised(name, ("relu",))),
           Curves(_BOTH, "method", ("benchmark",)), {"activation": ("relu",)}),
    Figure(9, "4", "correlation of every explanation with J_K, and its consistency over activations",
           _FOUR, Scores(), _NONE),
    Figure(10, "C.1", "update budget: task-end error over tasks by epochs a task, ReLU",
           (Use("budget-mnist_shuffle"), Use("activations-mnist_shuffle", {**_RELU, "learning_rate": 1e-3}, (10, 3))),
           Curves(("error",), "epochs"), {**_NONE, "activation": ("relu",), "learning_rate": (1e-3,)}),
    Figure(11, "C.1", "update budget: Hessian stable rank over tasks by epochs a task, ReLU",
           (Use("budget-mnist_shuffle"), Use("activations-mnist_shuffle", {**_RELU, "learning_rate": 1e-3}, (10, 3))),
           Curves(("hessian_srank@start",), "epochs"),
           {**_NONE, "activation": ("relu",), "learning_rate": (1e-3,)}),
    Figure(12, "C.2", "Hessian stable rank at task end against task start, and over tasks",
           _FOUR, StartEnd(), _NONE),
    *_problems(),
    Figure(22, "D", "Continual ImageNet: error and Hessian stable rank by activation",
           _pairs("activations", "continual_imagenet"), Curves(("error", "test_error", "hessian_srank")), _NONE,
           _pairs("activations", "class_pairs_cifar10")),
    Figure(23, "D", "Continual ImageNet: regularisers, ReLU",
           _pairs("regularisers", "continual_imagenet"), Curves(("error", "test_error", "hessian_srank"), "method"),
           {"activation": ("relu",)}, _pairs("regularisers", "class_pairs_cifar10")),
    Figure(24, "D.4", "sharpness of the Hessian at task start and end over tasks, by activation",
           _FOUR, Curves(("hessian_sharpness@start", "hessian_sharpness@end"), log=True), _NONE),
    Figure(25, "E", "12,800 examples a task: error and Hessian stable rank, by activation",
           (Use("examples-mnist_shuffle"),), Curves(_BOTH), _NONE),
    Figure(26, "F", "a network of 13 layers: error and Hessian stable rank, by activation",
           (Use("depth-mnist_shuffle"),), Curves(_BOTH), _NONE),
    Figure(27, "6", "sensitivity: J_K against strength, leaky ReLU and tanh",
           _regularised("mnist_shuffle", ("leaky_relu", "tanh")),
           Sensitivity(("activation", "reduction", "learning_rate")), {"activation": ("leaky_relu", "tanh")}),
]  # fmt: skip

FIGURES: dict[int, Figure] = {figure.number: figure for figure in sorted(_LISTED, key=lambda figure: figure.number)}


def figure_of(number: int) -> Figure:
    """A figure by its number.

    Args:
        number: from 1.

    Returns:
        The figure.

    Raises:
        ConfigError: if there is none of that number.
    """
    if number not in FIGURES:
        raise ConfigError(
            f"figure must be {min(FIGURES)} to {max(FIGURES)}: got {number}. `fastplast figure --list` lists them."
        )
    return FIGURES[number]
