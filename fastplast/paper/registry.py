"""The one table of figures: those of the paper by their numbers there, and figures of our own by names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastplast.config import ELEMENTWISE, ConfigError
from fastplast.paper.studies import STEP_SIZES, STRENGTHS, Use
from fastplast.text import closest

LAST_HIDDEN = "{layer}"  # in the name of a metric


@dataclass(frozen=True)
class Grid:
    """Panels of metrics.

    Attributes:
        metrics: with ``@start`` or ``@end`` where they have both; ``{layer}`` is the last hidden layer.
        lines: the field that tells lines apart.
        across: the field whose values have a column of panels each, every metric a row; metrics stand side by side
            where there is none.
        down: the field whose values have a row each, of the only metric.
        wide: how many metrics stand side by side; all if 0.
        x: ``"task"``; ``"update"``, of epochs within tasks; or the metric that others are drawn against, task by task.
        log: whether vertical axes are logarithmic.
    """

    metrics: tuple[str, ...]
    lines: str = "variant"
    across: str = ""
    down: str = ""
    wide: int = 0
    x: str = "task"
    log: bool = False


@dataclass(frozen=True)
class Scores:
    """Correlation of every explanation with the error, and its consistency."""

    lines: str = "activation"


@dataclass(frozen=True)
class Figure:
    """A figure.

    Attributes:
        name: its number in the paper, or a name of ours.
        section: of the paper.
        shows: a line of text.
        uses: the runs that it is drawn from.
        drawing: its panels.
        where: field to the values that are drawn; of results that hold more, the rest is left out. A ``variant`` is an
            activation with what was added to it.
        choice: what the paper's text leaves open, and what is drawn.
    """

    name: int | str
    section: str
    shows: str
    uses: tuple[Use, ...]
    drawing: Grid | Scores
    where: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    choice: str = ""

    @property
    def title(self) -> str:
        """``figure 4``, ``figure consistency``."""
        return f"figure {self.name}"

    @property
    def stem(self) -> str:
        """Of the names of its files."""
        return f"figure-{self.name:02d}" if isinstance(self.name, int) else f"figure-{self.name}"


_CURVED = ("relu", "leaky_relu", "tanh")
_METHODS = ("none", "l2", "regenerative", "wasserstein")
_RELU_WITH = ("relu + l2", "relu + regenerative", "relu + wasserstein")
_CHANGED = ("crelu", "relu + layer norm", "relu + dropout 0.5", "relu + last-layer reset")
_SHUFFLE, _PERMUTE, _CIFAR = "mnist_shuffle", "mnist_permute", "cifar_shuffle"
_PAIRS = {"benchmark": ("continual_imagenet", "class_pairs")}
_BOTH = ("error", "hessian_srank@start")
_EARLIER = ("displacement_l1", "feature_srank_{layer}", "activation_entropy", "weight_norm_l1", "weight_srank_{layer}")
_REDUCTION = "Open in the text: the reduction of L2 and regenerative penalties; both are candidates."
_WORDS = {_SHUFFLE: "label-shuffled MNIST", _PERMUTE: "observation-permuted MNIST", _CIFAR: "label-shuffled CIFAR-10"}


def _on(*benchmarks: str, **fields: tuple) -> dict[str, tuple]:
    return {"benchmark": benchmarks, **fields}


def _activations(*benchmarks: str) -> tuple[Use, ...]:
    return tuple(Use(f"activations-{name}") for name in benchmarks)


def _regularisers(benchmark: str) -> tuple[Use, ...]:
    return Use(f"activations-{benchmark}", {"activation": _CURVED}, (13, 5)), Use(f"regularisers-{benchmark}")


def _uses(names: str) -> tuple[Use, ...]:
    return tuple(Use(f"pairs_{name}") for name in names.split())


def _regularised(number: int, section: str, benchmark: str, methods: tuple[str, ...] = _METHODS) -> Figure:
    drawing = Grid((*_BOTH, "init_distance_l1"), "method", across="activation")
    return Figure(number, section, f"{_WORDS[benchmark]}, regularised: error, Hessian rank, distance from init",
                  _regularisers(benchmark), drawing, _on(benchmark, activation=_CURVED, method=methods),
                  _REDUCTION)  # fmt: skip


def _steps(number: int, benchmark: str) -> Figure:
    metrics = ("displacement_l1", "hessian_srank@start", "hessian_srank@end", "hessian_overlap@start",
               "hessian_overlap@end")  # fmt: skip
    return Figure(number, "C.2", f"{_WORDS[benchmark]}, leaky ReLU: update norm, and the gradient in the top space of "
                  "the Hessian", (Use(f"activations-{benchmark}", {"activation": "leaky_relu"}),),
                  Grid(metrics, "learning_rate"),
                  _on(benchmark, variant=("leaky_relu",), learning_rate=STEP_SIZES))  # fmt: skip


def _online(number: int, benchmark: str) -> Figure:
    return Figure(number, "C.4", f"{_WORDS[benchmark]}: average online error, error at task start and at task end",
                  _activations(benchmark), Grid(("online_error", "error@start", "error@end")),
                  _on(benchmark, variant=ELEMENTWISE),
                  "Open in the text: which problem and lines figures 13 to 15 have; here a problem each, by "
                  "activation.")  # fmt: skip


def _sensitivity(number: int, benchmark: str) -> Figure:
    return Figure(number, "C.5", f"{_WORDS[benchmark]}: error by strength of the regulariser",
                  (Use(f"regularisers-{benchmark}"),), Grid(("error",), "strength", "method", "activation"),
                  _on(benchmark, activation=_CURVED, method=_METHODS[1:], strength=STRENGTHS),
                  "Open in the text: the reduction, and the step size; each panel has those of its least mean error. "
                  "Strength 0.1 is not in the paper.")  # fmt: skip


def _correlated(number: int, metric: str, shows: str, variants: tuple[str, ...], uses: str) -> Figure:
    section = "D.3" if metric == "hessian_srank@start" else "D.4"
    return Figure(number, section, f"Continual ImageNet: {shows}", _uses(uses), Grid((metric,), x="error"),
                  _PAIRS | {"variant": variants})  # fmt: skip


_LISTED = [
    Figure(1, "3", "label-shuffled MNIST: error, and earlier explanations of the loss of plasticity",
           _activations(_SHUFFLE), Grid(("error", *_EARLIER), wide=3), _on(_SHUFFLE, variant=ELEMENTWISE)),
    Figure(2, "6.1", "three problems: error at task end above, stable rank of the Hessian at task start below",
           _activations(_SHUFFLE, _PERMUTE, _CIFAR), Grid(_BOTH, across="benchmark"),
           _on(_SHUFFLE, _PERMUTE, _CIFAR, variant=ELEMENTWISE)),
    Figure(3, "6.2", "label-shuffled MNIST, leaky ReLU: error, update norm, overlap and Hessian rank by step size",
           (Use(f"activations-{_SHUFFLE}", {"activation": "leaky_relu"}),),
           Grid(("error", "displacement_l1", "hessian_overlap@end", "hessian_srank@end"), "learning_rate"),
           _on(_SHUFFLE, variant=("leaky_relu",), learning_rate=STEP_SIZES)),
    _regularised(4, "6.3", _SHUFFLE),
    _regularised(5, "6.3", _PERMUTE),
    _regularised(6, "6.3", _CIFAR, ("none", "regenerative", "wasserstein")),
    Figure(7, "A.1", "label-shuffled MNIST: explanations of the loss of plasticity against the error",
           _activations(_SHUFFLE), Grid((*_EARLIER, "hessian_srank@start"), wide=3, x="error"),
           _on(_SHUFFLE, variant=ELEMENTWISE)),
    Figure(8, "C.1", "label-shuffled MNIST: error and Hessian rank by epochs of a task",
           (Use(f"budget-{_SHUFFLE}"),
            Use(f"activations-{_SHUFFLE}", {"activation": _CURVED, "learning_rate": 1e-3}, (10, 3))),
           Grid(_BOTH, "epochs", across="activation"), _on(_SHUFFLE, variant=_CURVED),
           "Open in the text: the epochs, and how activations are shown; here a column each."),
    *(_steps(9 + i, name) for i, name in enumerate(_WORDS)),
    _regularised(12, "C.3", _CIFAR),
    *(_online(13 + i, name) for i, name in enumerate(_WORDS)),
    *(_sensitivity(16 + i, name) for i, name in enumerate(_WORDS)),
    Figure(19, "D.1", "Continual ImageNet: error and Hessian rank by regulariser", _uses("activations regularisers"),
           Grid(_BOTH), _PAIRS | {"variant": ("relu", *_RELU_WITH, "identity")}, _REDUCTION),
    Figure(20, "D.2", "Continual ImageNet: error and Hessian rank by modification of the network",
           _uses("activations layer_norm dropout head_reset regularisers"), Grid(_BOTH),
           _PAIRS | {"variant": ("relu", *_CHANGED, "relu + wasserstein")}, _REDUCTION),
    _correlated(21, "hessian_srank@start", "Hessian rank against the error, activations and regularisers",
                (*ELEMENTWISE, *_RELU_WITH), "activations regularisers"),
    _correlated(22, "hessian_srank@start", "Hessian rank against the error, modifications of the network",
                ("relu", *_CHANGED), "activations layer_norm dropout head_reset"),
    _correlated(23, "hessian_sharpness@start", "sharpness against the error, regularisers",
                ("relu", *_RELU_WITH, "identity"), "activations regularisers"),
    _correlated(24, "hessian_sharpness@start", "sharpness against the error, activations and modifications",
                (*ELEMENTWISE, *_CHANGED), "activations layer_norm dropout head_reset"),
    Figure(25, "D.5", "Continual ImageNet: online error within the first 10 tasks",
           _uses("activations regularisers"), Grid(("online_error",), x="update"),
           _PAIRS | {"variant": ("relu", *_RELU_WITH[1:], "identity")}, _REDUCTION),
    Figure(26, "E", "label-shuffled MNIST, 12,800 examples: error, Hessian rank and feature rank",
           (Use(f"examples-{_SHUFFLE}"), Use(f"examples_regularisers-{_SHUFFLE}")),
           Grid((*_BOTH, "feature_srank_{layer}")), _on(_SHUFFLE, variant=(*ELEMENTWISE, *_RELU_WITH),
                                                        examples=(12800, 256)),
           "Open in the text: curves or correlations; here curves (--x error draws the other)."),
    Figure(27, "F", "label-shuffled MNIST, a network of 13 layers: error and Hessian rank",
           (Use(f"depth-{_SHUFFLE}"), Use(f"depth_regularisers-{_SHUFFLE}")), Grid(_BOTH),
           _on(_SHUFFLE, variant=("relu", "identity", *_RELU_WITH[1:]), network=("mlp13",)), _REDUCTION),
    Figure("consistency", "4", "correlation of every explanation with the error, and its consistency over activations",
           _activations(_SHUFFLE), Scores(), _on(_SHUFFLE, variant=ELEMENTWISE)),
    Figure("start-end", "C.2", "Hessian rank at task end against task start, task by task", _activations(_SHUFFLE),
           Grid(("hessian_srank@end",), x="hessian_srank@start"), _on(_SHUFFLE, variant=ELEMENTWISE)),
    Figure("sharpness", "D.4", "label-shuffled MNIST: sharpness of the Hessian at task start and end",
           _activations(_SHUFFLE), Grid(("hessian_sharpness@start", "hessian_sharpness@end"), log=True),
           _on(_SHUFFLE, variant=ELEMENTWISE)),
    Figure("problems", "6.3", "four problems: error and Hessian rank by regulariser, ReLU",
           tuple(use for name in (*_WORDS, "cifar_permute") for use in (
               Use(f"activations-{name}", {"activation": "relu"}, (13, 5)),
               Use(f"regularisers-{name}", {"activation": "relu"}))),
           Grid(_BOTH, "method", across="benchmark"),
           _on(*_WORDS, "cifar_permute", activation=("relu",), method=_METHODS)),
    Figure("cifar-permute", "6.1", "pixel-permuted CIFAR-10, not in the paper: error and Hessian rank",
           _activations("cifar_permute"), Grid(_BOTH), _on("cifar_permute", variant=ELEMENTWISE)),
]  # fmt: skip

FIGURES: dict[int | str, Figure] = {figure.name: figure for figure in _LISTED}


def figure_of(name: int | str) -> Figure:
    """A figure by its number in the paper or its name.

    Args:
        name: a number, which may be text, or a name.

    Returns:
        The figure.

    Raises:
        ConfigError: if there is none.
    """
    known = int(name) if str(name).isdecimal() else name
    if known not in FIGURES:
        numbers = [one for one in FIGURES if isinstance(one, int)]
        hint = "" if isinstance(known, int) else f"{closest(str(name), [str(one) for one in FIGURES])} "
        raise ConfigError(
            f"figure must be {min(numbers)} to {max(numbers)} or a name: got {name}. {hint}`fastplast figure --list` "
            "lists them."
        )
    return FIGURES[known]


def adapt(
    figure: Figure,
    where: Mapping[str, Sequence[Any]] | None = None,
    lines: str | None = None,
    x: str | None = None,
    metrics: Mapping[str, str] | None = None,
) -> Figure:
    """A figure with another choice of what the paper's text leaves open.

    Args:
        figure: as the table has it.
        where: field to the values that are drawn, in place of the figure's own of that field.
        lines: the field that tells lines apart.
        x: what is drawn against, as of ``Grid``.
        metrics: a metric of the figure to the one that is drawn in its place.

    Returns:
        The figure.

    Raises:
        ConfigError: if the figure has no such metric, or no panels to change.
    """
    changes: dict[str, Any] = {name: value for name, value in (("lines", lines), ("x", x)) if value}
    drawing = figure.drawing
    if isinstance(drawing, Grid):
        kept = [name for name in drawing.metrics if not x or name.partition("@")[0] != x.partition("@")[0]]
        if unknown := [name for name in metrics or () if name not in kept]:
            raise ConfigError(
                f"--metric must name one of {figure.title}: got {unknown[0]}. {closest(unknown[0], kept)}"
            )
        changes["metrics"] = tuple((metrics or {}).get(name, name) for name in kept)
    elif changes or metrics:
        raise ConfigError(f"--lines, --x and --metric change panels of metrics: {figure.title} has none.")
    if "activation" in (where or {}) or "method" in (where or {}):
        figure = dataclasses.replace(figure, where={k: v for k, v in figure.where.items() if k != "variant"})
    own = {name: tuple(values) for name, values in (where or {}).items()}
    return dataclasses.replace(figure, drawing=dataclasses.replace(drawing, **changes), where={**figure.where, **own})
