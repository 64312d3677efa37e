"""CReLU, layer normalisation and dropout in the convolutional training step: its definition and the fused one."""

from __future__ import annotations

import pytest
import torch
from assertions import assert_close, assert_same_bits
from conv_case import ConvCase, make_conv_case
from fastplast_kernels.train_step import ConvLayer, reference
from fastplast_kernels.train_step.reference import bias_of, dropout_masks, weight_of
from test_conv_step import check, check_one_step
from test_conv_step_independence import STATE, assert_same_member, infinite_gradient
from torch import Tensor
from torch.nn import functional

CHANGES = {
    "crelu": {"activation": "crelu"},
    "norm": {"activation": "tanh", "norm": True},
    "dropout": {"activation": "tanh", "dropout": 0.3},
    "dropout-relu": {"activation": "leaky_relu", "dropout": 0.5},
    "all": {"activation": "crelu", "norm": True, "dropout": 0.2},
}
ACTIVATIONS = {
    "crelu": lambda z: torch.cat((z.relu(), (-z).relu()), 1),
    "tanh": torch.tanh,
    "leaky_relu": functional.leaky_relu,
    "identity": lambda z: z,
}
# Images, convolutions as (outputs, kernel, stride, padding), outputs of dense layers, batch, pooling.
SHAPES = [
    ((3, 7, 9), ((5, 3, 2, 1), (4, 3, 1, 0)), (11, 5), 16, 1),
    ((1, 7, 7), ((7, 5, 1, 2), (3, 3, 2, 0), (2, 3, 2, 1)), (6, 7, 3), 5, 1),
    ((2, 6, 6), ((3, 3, 3, 1), (16, 3, 1, 2)), (5,), 37, 1),
    ((3, 12, 13), ((5, 5, 1, 0), (4, 3, 1, 0)), (11, 5), 16, 2),
    ((2, 9, 8), ((7, 3, 1, 1),), (6, 3), 21, 3),
]
POOLED = {"shape": (3, 12, 13), "convolutions": ((5, 5, 1, 0), (4, 3, 1, 0)), "pool": 2}
ids = {"argvalues": CHANGES.values(), "ids": CHANGES}


def logits_of(row: Tensor, case: ConvCase, x: Tensor, masks: list[Tensor | None]) -> Tensor:
    """One member as anyone would write it; a layer's mask is `[B, ...]`."""
    for layer, mask in zip(case.layers, masks):
        weight, bias = weight_of(row, layer)[0], bias_of(row, layer)[0]
        if isinstance(layer, ConvLayer):
            x = x.reshape(-1, layer.channels, layer.height, layer.width)
            weight = weight.view(layer.outputs, layer.channels, layer.kernel, layer.kernel)
            x = functional.conv2d(x, weight, bias, layer.stride, layer.padding)
        else:
            x = functional.linear(x.flatten(1), weight, bias)
        if layer.normed:
            scale, shift = (row[0, at : at + layer.outputs] for at in (layer.norm_scale, layer.norm_shift))
            x = functional.group_norm(x, 1, scale, shift)
        x = ACTIVATIONS[layer.activation](x)
        x = functional.max_pool2d(x, layer.pool) if isinstance(layer, ConvLayer) else x
        x = x if mask is None else x * mask
    return x


@pytest.mark.parametrize("change", **ids)
@pytest.mark.parametrize(("shape", "convolutions", "sizes", "batch", "pool"), SHAPES)
def test_closed_form_gradients_are_those_of_autograd(shape, convolutions, sizes, batch, pool, change: dict) -> None:
    case = make_conv_case(shape, convolutions, sizes, pool=pool, batch=batch, **change)
    x, labels = case.task.inputs(case.order[:, 0]).double(), case.task.labels.gather(1, case.order[:, 0])
    masks = None if case.keys is None else dropout_masks(case.layers, case.keys, case.steps, batch)
    grads, loss, _ = reference.gradients(case.params.double(), case.layers, x, labels, masks)
    for i in range(3):
        row = case.params[i : i + 1].double().requires_grad_()
        own = [None if mask is None else mask[i] for mask in masks or [None] * len(case.layers)]
        expected = functional.cross_entropy(logits_of(row, case, x[i], own), labels[i])
        expected.backward()
        assert row.grad is not None
        assert_close("loss", loss[i], expected, dtype=torch.float64, length=99)
        assert_close("gradient", grads[i], row.grad[0], dtype=torch.float64, length=99, factor=16)


@pytest.mark.parametrize("change", **ids)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize(("shape", "convolutions", "sizes", "batch", "pool"), SHAPES)
def test_one_step_equals_the_definition(shape, convolutions, sizes, batch, pool, optimizer: str, change: dict) -> None:
    options = {"pool": pool, "batch": batch, "steps": 1, "optimizer": optimizer}
    check_one_step(make_conv_case(shape, convolutions, sizes, **options, **change))


@pytest.mark.parametrize("change", **ids)
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("pull", ["none", "mixed"])
@pytest.mark.parametrize("fields", [{}, POOLED], ids=["plain", "pooled"])
def test_chained_steps_with_weight_decay_equal_the_definition(fields, optimizer: str, pull: str, change: dict) -> None:
    options = {"optimizer": optimizer, "decoupled": optimizer == "adamw", "pull": pull, "ragged": True, "steps": 10}
    case = make_conv_case(members=4, **options, **fields, **change)
    case.hyper.weight_decay[:] = torch.tensor([0.0, 0.01, 0.1, 0.5])
    check(case, rate=5e-3)


@pytest.mark.parametrize("change", **ids)
@pytest.mark.parametrize("fields", [{}, POOLED], ids=["plain", "pooled"])
def test_a_member_is_the_same_alone_with_any_threads_and_in_calls_split_differently(fields, change: dict) -> None:
    together = make_conv_case(members=4, pull="mixed", ragged=True, batch=19, **fields, **change)
    alone, parts = [together.pick([i]) for i in range(4)], together.fresh()
    together.train(threads=2)
    for start, end in ((0, 1), (1, 8), (8, 20)):
        parts.train(order=parts.order[:, start:end])
    for i in range(4):
        alone[i].train()
        assert_same_member(alone[i], 0, together, i)
        assert_same_member(parts, i, together, i)
    for name in ("params", "m", "v"):
        assert (getattr(together, name)[:, ~together.is_parameter()] == 0).all()


@pytest.mark.parametrize("change", **ids)
def test_what_a_member_does_does_not_depend_on_the_minibatches_before(change: dict) -> None:
    """What a larger minibatch, or another member, left in a thread's memory is nothing to the next."""
    case = make_conv_case(members=2, batch=37, ragged=True, steps=6, **change)
    alone = case.pick([1])
    case.train()
    for step in range(6):
        alone.train(order=alone.order[:, step : step + 1, : int((alone.order[0, step] >= 0).sum())])
    assert_same_member(alone, 0, case, 1)


def test_a_rate_of_zero_is_no_dropout_to_the_bit() -> None:
    plain, zero = make_conv_case(), make_conv_case(dropout=0.0).fresh(keys=torch.full((3, 2), 5))
    plain.train()
    zero.train()
    for i in range(3):
        assert_same_member(plain, i, zero, i)


def test_a_bad_update_is_undone_with_the_masks_of_its_updates() -> None:
    case = infinite_gradient(6, steps=10, dropout=0.2)
    before = case.fresh()
    before.train(order=before.order[:, :6])
    case.train()
    assert case.diverged.tolist() == [-1, 6, -1]
    for name in STATE[:4]:
        assert_same_bits(name, getattr(case, name)[1], getattr(before, name)[1])
