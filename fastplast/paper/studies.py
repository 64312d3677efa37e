"""The runs that figures are drawn from: each study is one sweep directory, shared by every figure that needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastplast.config import BENCHMARKS, ELEMENTWISE, ConfigError
from fastplast.text import closest

SCALES = ("paper", "tenth", "smoke")
STEP_SIZES = (1e-2, 1e-3, 1e-4)
STRENGTHS = (1.0, 0.1, 0.01, 0.001, 0.0001)  # 0.1 is not in the paper
REGULARISERS = ("l2", "regenerative", "wasserstein")
# Small enough for a couple of seconds, and no result: two seeds, three tasks of a few updates, narrow layers.
_SMOKE = {"seeds": 2, "tasks": 3, "epochs": 2, "examples": 64, "widths": (16, 12, 8)}
_SMOKE_LISTS = {"strength": (1.0, 0.01), "reduction": ("mean",)}


@dataclass(frozen=True)
class Study:
    """A sweep.

    Attributes:
        grid: field of ``Experiment`` to value or values, which are crossed, at the paper's scale.
        seeds: that are reported, at the scales paper and tenth.
        tasks: likewise.
        choosing: likewise, more seeds, which choose step sizes and strengths where there is a choice.
        smoke: what the scale smoke has in place of values of the grid.
    """

    grid: Mapping[str, Any]
    seeds: tuple[int, int]
    tasks: tuple[int, int]
    choosing: tuple[int, int] = (0, 0)
    smoke: Mapping[str, Any] = field(default_factory=dict)


def _study(
    benchmark: str,
    grid: dict[str, Any],
    seeds: tuple[int, int] = (10, 3),
    choosing: tuple[int, int] = (0, 0),
    share: float = 0.33,
    **smoke: Any,
) -> Study:
    """A study whose tasks at the scale tenth are a share of the paper's."""
    tasks = BENCHMARKS[benchmark]["tasks"]
    if BENCHMARKS[benchmark]["network"] == "cnn":
        smoke |= {"widths": (12, 8), "channels": (4, 4)}
    grid = {"benchmark": benchmark, "srank": "both"} | grid
    return Study(grid, seeds, (tasks, round(tasks * share)), choosing, smoke)


def _pairs(dataset: str, extra: dict[str, Any], choosing: tuple[int, int] = (0, 0)) -> Study:
    """Continual ImageNet as in appendix B.4, on pairs of classes of any dataset; the paper does not say how many."""
    smoke = {"widths": (9, 8), "channels": (4, 5, 3), "test_examples": 16, "batch_size": 16}
    grid = {"benchmark": "continual_imagenet", "dataset": dataset, "srank": "start", "epoch_curves": True}
    return Study(grid | {"batch_size": 100, "epochs": 200} | _ONE | extra, (20, 5), (100, 40), choosing, smoke)


def _regularised(*activations: str, strengths: tuple[float, ...] = STRENGTHS) -> dict[str, Any]:
    crossed = {"method": REGULARISERS, "strength": strengths, "reduction": ("mean", "sum")}
    return crossed | {"activation": activations}


_BENCHMARKS = ("mnist_shuffle", "mnist_permute", "cifar_shuffle", "cifar_permute")
PAIR_DATASETS = ("imagenet32", "cifar10", "fashion_mnist", "mnist")  # the richest first
_ONE = {"learning_rate": 1e-3}  # where the step size is not what is asked about
_MANY = {"examples": 12800, "epochs": 20, **_ONE}
_DEEP = {"network": "mlp13", **_ONE}
_NARROW = (8,) * 12
_CURVED = ("relu", "leaky_relu", "tanh")

STUDIES: dict[str, Study] = {
    **{f"activations-{name}": _study(name, {"activation": ELEMENTWISE, "learning_rate": STEP_SIZES},
                                     (30, 8), (3, 3), 0.3) for name in _BENCHMARKS},
    **{f"regularisers-{name}": _study(name, {**_regularised(*_CURVED), "learning_rate": STEP_SIZES},
                                      (10, 3), (3, 2), 0.26, **_ONE) for name in _BENCHMARKS},
    "budget-mnist_shuffle": _study("mnist_shuffle", {"activation": _CURVED, "epochs": (25, 50, 100, 400), **_ONE},
                                   epochs=(1, 4)),
    "examples-mnist_shuffle": _study("mnist_shuffle", {"activation": ELEMENTWISE, **_MANY}, examples=256),
    "examples_regularisers-mnist_shuffle": _study("mnist_shuffle", {**_regularised("relu"), **_MANY}, (10, 3),
                                                  (3, 2), 0.21, examples=256),
    "depth-mnist_shuffle": _study("mnist_shuffle", {"activation": ("relu", "identity"), **_DEEP}, widths=_NARROW),
    "depth_regularisers-mnist_shuffle": _study("mnist_shuffle", {**_regularised("relu"), **_DEEP}, (10, 3), (3, 2),
                                               0.21, widths=_NARROW),
    **{f"{name}-{data}": _pairs(data, grid, choosing) for data in PAIR_DATASETS for name, grid, choosing in (
        ("pairs_activations", {"activation": (*ELEMENTWISE, "crelu")}, (0, 0)),
        ("pairs_regularisers", _regularised("relu", strengths=(0.01,)), (3, 2)),
        ("pairs_layer_norm", {"activation": "relu", "layer_norm": True}, (0, 0)),
        ("pairs_dropout", {"activation": "relu", "dropout": 0.5}, (0, 0)),
        ("pairs_head_reset", {"activation": "relu", "head_reset": "reinit"}, (0, 0)),
    )},
}  # fmt: skip


@dataclass(frozen=True)
class Use:
    """What a figure needs of a study.

    Attributes:
        study: name in ``STUDIES``; of ``pairs_...``, without the dataset, which is chosen by what is on the machine.
        only: field to the values that are needed, at the paper's scale; all of the study's where a field is missing.
        seeds: how many at the scales paper and tenth; all of the study's if None.
    """

    study: str
    only: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, int] | None = None

    def grid(self, scale: str) -> dict[str, Any]:
        """The members that are needed, as a grid.

        Args:
            scale: one of ``SCALES``.

        Returns:
            Field to value or values.

        Raises:
            ConfigError: if the scale is unknown.
        """
        if scale not in SCALES:
            raise ConfigError(f"--scale must be a known name: got {scale!r}. {closest(scale, SCALES)}")
        study = STUDIES[self.study]
        whole = {**study.grid, **self.only}
        if scale == "smoke":
            lists = {n: v for n, v in _SMOKE_LISTS.items() if isinstance(whole.get(n), tuple)}
            return {n: _listed(v) for n, v in {**whole, **lists, **_SMOKE, **study.smoke, **self.only}.items()}
        at = SCALES.index(scale)
        seeds = self.seeds or tuple(map(sum, zip(study.seeds, study.choosing)))
        sizes = {"seeds": seeds[at], "tasks": study.tasks[at]}
        return {name: _listed(value) for name, value in (whole | sizes).items()}

    def directory(self, scale: str, runs: Path) -> Path:
        """Where its runs lie.

        Args:
            scale: one of ``SCALES``.
            runs: the folder of all runs.

        Returns:
            A sweep directory, which other figures may share.
        """
        return runs / f"{self.study}-{scale}"


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
