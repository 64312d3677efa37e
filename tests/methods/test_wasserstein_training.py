"""Training with the Wasserstein method, real images: the fused kernels against the definition with torch's sort."""

import pytest
import torch
from assertions import assert_close, tolerance
from fastplast_kernels.wasserstein import reference

from fastplast import seeding
from fastplast.config import Experiment
from fastplast.engines import Accumulators
from fastplast.methods import pull
from fastplast.problems import make_task
from fastplast.training.setup import prepare

TASKS, EPOCHS = 2, 3
AMPLIFIED = 10.0  # times the effect of one disturbed bit: training multiplies rounding errors


def curve(engine: str, disturbed: bool = False) -> torch.Tensor:
    """Mean loss of each epoch of each task, `[M, K * epochs]`; `disturbed` in the last bit of the initial weights."""
    fields = {"examples": 320, "seeds": 2, "srank": "off", "widths": (32, 16, 12)}
    setup = prepare(
        Experiment(benchmark="mnist_shuffle", engine=engine, method="wasserstein", strength=(0.01, 1.0), **fields)
    )
    if disturbed:
        setup.state.params.mul_(torch.where(torch.arange(setup.group.layout.size) % 2 > 0, 1 + 2**-23, 1 - 2**-23))
    points = []
    for index in range(TASKS):
        task = make_task(setup.problem, index)
        for epoch in range(EPOCHS):
            order = torch.from_numpy(seeding.orders([m.seed for m in setup.group.members], 320, 16, index, epoch))
            sums = setup.engine.run(setup.state, task, order)
            assert isinstance(sums, Accumulators)
            points.append(sums.loss / sums.steps)
    return torch.stack(points, 1)


def test_two_tasks_of_label_shuffled_mnist_give_the_curves_of_torch_sort(monkeypatch):
    fused = curve("cpu")
    assert torch.isfinite(fused).all()
    kernel = curve("vmap")
    monkeypatch.setattr(pull, "ranked_target", reference.target)
    definition = curve("vmap")
    assert torch.equal(kernel, definition)
    chaos = AMPLIFIED * float((curve("vmap", disturbed=True) - definition).abs().max())
    sums = 784 * TASKS * EPOCHS * 20  # terms of a sum, updates
    assert chaos < 0.1  # else the comparison says nothing
    assert_close("mean losses", fused, definition, scale=1.0 + chaos / tolerance(torch.float32, sums), length=sums)


@pytest.mark.parametrize("rows", [1, 3])
def test_the_targets_of_the_vmap_engine_are_the_bits_of_the_reference(rows, make_trial, monkeypatch):
    trial = make_trial(method="wasserstein", strength=(0.1,), seeds=rows)
    trial.train(2)
    found = trial.engine.pull.target(trial.state.params)
    monkeypatch.setattr(pull, "ranked_target", reference.target)
    assert torch.equal(found, trial.engine.pull.target(trial.state.params))
