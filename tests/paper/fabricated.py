"""Runs that hold the members of a study, with numbers that were made up."""

import dataclasses

import numpy as np

from fastplast.paper.studies import Use
from fastplast.paper.uses import uses_of
from fastplast.runs.writer import RunWriter
from fastplast.sweeps import expand, grid_of

TASKS = 6
LAYERS = ("fc1", "fc2")
EPOCHS = 4
_SLOPE = {"relu": 0.1, "leaky_relu": 0.05, "tanh": 0.03, "identity": 0.0, "crelu": 0.08}
_GAIN = {"none": 1.0, "l2": 0.7, "regenerative": 0.5, "wasserstein": 0.3}
_MEMBER = ("seed", "learning_rate", "method", "strength")
_GROUP = ("dataset", "reduction", "benchmark", "epochs", "examples", "batch_size", "network", "activation", "optimizer",
          "layer_norm", "dropout", "head_reset")  # fmt: skip


def make_run(path, uses, seeds=2, tasks=TASKS, first_seed=0, diverge=(), leave_out=(), **overridden):
    """Writes a run with every member that `uses` need at the smallest scale, of `seeds` seeds.

    `diverge` has positions of members that diverge in task 2; `leave_out` has columns; `overridden` has grid values.
    """
    cells = []
    for use in uses:
        grid = use.grid("smoke") | {"seeds": seeds, "seed_start": first_seed, "tasks": tasks}
        cells += expand(grid_of(grid | overridden))
    rng = np.random.default_rng(0)
    described = {"member": list(range(len(cells)))}
    described |= {name: [getattr(cell.member, name) for cell in cells] for name in _MEMBER}
    described |= {name: [getattr(cell.group, name) for cell in cells] for name in _GROUP}
    described |= {"data_source": ["embedded"] * len(cells), "engine": ["cpu"] * len(cells)}
    talent = 0.02 * rng.random(len(cells))
    slope = np.array([_SLOPE[cell.group.activation] * _GAIN[cell.member.method] for cell in cells]) + talent
    slope *= 1 + 0.2 * np.array([np.log10(cell.group.epochs) for cell in cells])
    with RunWriter.create(path, {}, "made up") as writer:
        for task in range(tasks):
            for when in ("start", "end"):
                measured = {"updates": [8 * (task + (when == "end"))] * len(cells)}
                measured["diverged"] = [i in diverge and task >= 2 for i in range(len(cells))]
                measured |= numbers(slope, task, when, rng)
                for column in leave_out:
                    name, _, at = column.partition("@")
                    if not at or at == when:
                        measured.pop(name, None)
                writer.write_metrics(task, when, described | measured)
            if cells[0].group.epoch_curves:
                online = np.concatenate([0.9 * np.exp(-(epoch + 1) * 0.3) + slope for epoch in range(EPOCHS)])
                who = {name: list(values) * EPOCHS for name, values in described.items() if name in ("member", "seed")}
                number = [epoch for epoch in range(EPOCHS) for _ in cells]
                writer.write_epochs(task, who, number, {"online_error": online.clip(0, 1)})
        writer.finish()
    return writer.run.path


def numbers(slope, task, when, rng):
    """Every metric that a figure draws, at one time."""

    def noisy(values):
        return np.maximum(np.asarray(values) * (1 + 0.05 * rng.normal(size=len(slope))), 0)

    error = noisy(0.9 * (1 - np.exp(-slope * task))) if when == "end" else noisy(np.full(len(slope), 0.9))
    found = {"error": error.clip(0, 1), "loss": noisy(1 + slope * task)}
    found |= {f"feature_srank_{layer}": noisy(30 - 40 * slope * task).round().clip(0, 32) for layer in LAYERS}
    found |= {
        "dormant_fraction": noisy(slope * task).clip(0, 1),
        "activation_entropy": noisy(3.4 - 2 * slope).clip(0, np.log(32)),
    }
    found |= {"weight_norm_l1": noisy(0.1 + slope * task)}
    found |= {f"weight_srank_{layer}": noisy(31 - slope * task).clip(0, 32) for layer in LAYERS}
    found |= {"hessian_srank": noisy(800 * np.exp(-9 * slope * task) * (1 if when == "start" else 0.5)).round()}
    found |= {
        "hessian_sharpness": noisy(10.0 ** (-1 - task * slope * 10)),
        "hessian_overlap": noisy(0.5 + slope).clip(-1, 1),
    }
    if when == "end":
        found |= {"update_l1_mean": noisy(1e-4 / (1 + 20 * slope * task)), "test_error": noisy(0.3 + slope * task)}
        found |= {"displacement_l1": noisy(0.1 + slope * task), "init_distance_l1": noisy(0.1 + slope * task)}
        found |= {"online_error": noisy(0.2 + slope * task).clip(0, 1)}
    return found


def runs_of(folder, figure, seeds=2, **options):
    """A run for each study of a figure, made once."""
    return [run_of(folder, use, seeds, **options) for use in uses_of(figure, "smoke")]


def run_of(folder, use, seeds=2, **options):
    """A run with the members of one use; shared by figures that need the same."""
    name = f"{use.study}-{seeds}-" + "-".join(f"{k}.{v}".replace("'", "") for k, v in (use.only | options).items())
    path = folder / "".join(c if c.isalnum() or c in "-._" else "_" for c in name)
    return path if path.exists() else make_run(path, [dataclasses.replace(use, seeds=None)], seeds, **options)


__all__ = ["TASKS", "Use", "make_run", "run_of", "runs_of"]
