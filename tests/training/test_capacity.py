"""The estimate of a member's memory is of what a member takes."""

import dataclasses

import pytest
import torch

from fastplast import Experiment
from fastplast.networks.convolution import convolve_by_product
from fastplast.problems import make_task
from fastplast.seeding import orders
from fastplast.training.capacity import bytes_per_member, fitting
from fastplast.training.setup import prepare

MLP = {"benchmark": "mnist_permute", "examples": 64}
CNN = {"benchmark": "cifar_shuffle", "examples": 64, "channels": (8, 8)}


def held(experiment: Experiment) -> int:
    """Bytes that training holds: the state, what it is pulled to, the task's start, a checkpoint, tables, an order."""
    setup = prepare(experiment)
    state, e, task = setup.state.tensors(), setup.experiment, make_task(setup.problem, 0)
    assert setup.engine.pull is not None
    own = [*state.values(), *(v for v in vars(setup.engine.pull).values() if isinstance(v, torch.Tensor))]
    own += [state["params"], *state.values(), state["params"]]  # at the task's start, and as they are stored
    own += [v for v in (task.rows, task.labels, task.pixels) if v is not None]
    order = orders(setup.group.seeds, e.examples, e.batch_size, 0, 0)
    return sum(tensor.nbytes for tensor in own) + order.nbytes


@pytest.mark.parametrize("engine", ["cpu", "vmap"])
@pytest.mark.parametrize("values", [MLP, CNN, MLP | {"method": "wasserstein", "strength": 0.1}], ids=str)
def test_the_estimate_covers_what_one_more_member_takes(engine, values):
    experiment = Experiment(**values, engine=engine, seeds=2)
    setup = prepare(experiment)
    each = held(dataclasses.replace(experiment, seeds=3)) - held(experiment)
    estimate = bytes_per_member(setup.experiment, setup.group, setup.problem, engine)
    assert each <= estimate <= 2.5 * each
    memory = 4 * 10**9
    left = int(0.8 * memory) - setup.problem.images.nbytes
    count = fitting(setup.experiment, setup.group, setup.problem, engine, memory)
    on_gpu = bytes_per_member(setup.experiment, setup.group, setup.problem, engine, on_gpu=True)
    assert count * on_gpu <= left < (count + 1) * on_gpu
    assert fitting(setup.experiment, setup.group, setup.problem, engine, 0) == 0


def test_patches_of_convolutions_are_counted_where_they_are_products_of_matrices():
    setup = prepare(Experiment(**CNN, engine="vmap", seeds=2))
    e, layers = setup.experiment, setup.group.network.layers
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        x = torch.rand(e.batch_size, *setup.problem.shape, requires_grad=True)
        for layer in layers[:2]:
            weight = torch.rand(layer.weight_shape, requires_grad=True)
            x = convolve_by_product(x, weight, torch.rand(layer.outputs), layer.stride, layer.padding)
            x = torch.nn.functional.max_pool2d(x, layer.pool) if layer.pool > 1 else x
    patches = sum(tensor.nbytes for tensor in saved if tensor.dim() == 2 and tensor.shape[0] > e.batch_size)
    sizes = (e, setup.group, setup.problem, "vmap")
    assert patches > 0
    assert bytes_per_member(*sizes, on_gpu=True) - bytes_per_member(*sizes) >= 2 * patches
