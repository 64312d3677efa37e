"""CReLU, layer normalisation and dropout in the fused training step on CPU cores, against its definition."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np
import pytest
import torch
from assertions import assert_same_bits
from fastplast_kernels.dropout import dropout_mask
from fastplast_kernels.dropout.cpu import Stream, fill_mask
from fastplast_kernels.train_step import reference
from mlp_case import make_case
from test_mlp_step import check, check_one_step
from test_mlp_step_independence import STATE, assert_same_member

CHANGES = {
    "crelu": {"activation": "crelu"},
    "norm": {"activation": "tanh", "norm": True},
    "dropout": {"activation": "tanh", "dropout": 0.3},
    "dropout-relu": {"activation": "leaky_relu", "dropout": 0.5},
    "all": {"activation": "crelu", "norm": True, "dropout": 0.2},
}
SHAPES = [((37, 21, 18, 5), 16), ((130, 34, 3, 2), 1), ((5, 1, 7, 6, 9), 3), ((9, 64, 33, 10), 21)]


@numba.njit
def masks_of(stream, layer, rate, mask, first, count):
    fill_mask(stream, layer, rate, mask, 3, first, count)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("shape", [(16, 128), (3, 7), (1, 1)])
def test_masks_are_those_of_the_definition_to_the_bit(rate: float, shape: tuple[int, int]) -> None:
    keys = torch.tensor([[1, 2], [0xFFFFFFFF, 0xFFFFFFFF], [0xA4093822, 0x299F31D0]])
    updates, count = torch.tensor([0, (1 << 33) + 7, 15999]), shape[0] * shape[1]
    for layer in (0, 3):
        expected = dropout_mask(keys, updates, layer, shape, rate)
        for member in range(3):
            mask = np.full(count + 7, -1, np.float32)
            masks_of(Stream(*keys[member].tolist(), int(updates[member])), layer, rate, mask, 0, count)
            assert_same_bits("mask", torch.from_numpy(mask[3 : count + 3]), expected[member].flatten())
            assert (mask[:3] == -1).all()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize(("sizes", "batch"), SHAPES)
def test_one_step_equals_the_definition(sizes, batch, optimizer: str, change: dict) -> None:
    # Normalising three outputs takes two of three directions off a gradient: of a seed that leaves more than rounding.
    check_one_step(make_case(sizes, batch=batch, steps=1, optimizer=optimizer, seed=1 if batch == 1 else 0, **change))


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
@pytest.mark.parametrize("pull", ["none", "mixed"])
def test_chained_steps_with_weight_decay_equal_the_definition(optimizer: str, pull: str, change: dict) -> None:
    # Of a seed with which no two weights come so near each other that their ranks hang on rounding errors.
    case = make_case(members=4, seed=1, optimizer=optimizer, pull=pull, ragged=True, **change)
    case = case.fresh(decoupled=optimizer == "adamw")
    case.hyper.weight_decay[:] = torch.tensor([0.0, 0.01, 0.1, 0.5])
    check(case, rate=5e-3)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_member_is_the_same_alone_with_any_threads_and_in_calls_split_differently(change: dict) -> None:
    together = make_case(members=4, pull="mixed", ragged=True, **change)
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


def test_a_bad_update_is_undone_with_the_masks_of_its_updates() -> None:
    case = make_case((6, 4, 3), "tanh", members=2, batch=2, floats=True, steps=10, dropout=0.2)
    case.task.rows.remainder_(len(case.task.images) - 1)
    case.task.rows[1, 45] = len(case.task.images) - 1
    case.task.images[-1, 2] = float("inf")
    case.order.remainder_(40)
    case.order[1, 6, 0] = 45
    before = case.fresh()
    before.train(order=before.order[:, :6])
    case.train()
    assert case.diverged.tolist() == [-1, 6]
    for name in STATE[:4]:
        assert_same_bits(name, getattr(case, name)[1], getattr(before, name)[1])


def test_a_rate_of_zero_is_no_dropout_to_the_bit() -> None:
    plain, zero = make_case(), make_case(dropout=0.0).fresh(keys=torch.full((3, 2), 5))
    plain.train()
    zero.train()
    for i in range(3):
        assert_same_member(plain, i, zero, i)


@pytest.mark.parametrize(
    ("changes", "keys", "message"),
    [
        ({"dropout": 1.0}, True, r"dropout must be at least 0 and less than 1: got 1\.0"),
        ({"dropout": -0.1}, True, "dropout must be at least 0"),
        ({"dropout": 0.5}, False, r"keys must be given where a layer has dropout: got None"),
        ({"norm_scale": 3}, False, r"layer 0 must lie in a row of \d+ floats: got norm at \(3, -1\)"),
        ({"norm_scale": 0, "norm_shift": 1 << 20}, False, "Pass both, or -1 twice"),
    ],
)
def test_what_cannot_be_is_refused(changes: dict, keys: bool, message: str) -> None:
    case = make_case()
    layers = (replace(case.layers[0], **changes), *case.layers[1:])
    with pytest.raises(ValueError, match=message):
        case.fresh(layers=layers, keys=torch.zeros(3, 2, dtype=torch.int64) if keys else None).train()


def test_a_last_layer_that_gives_no_logits_and_keys_of_more_than_32_bits_are_refused() -> None:
    case = make_case((7, 5, 4), activation="crelu")
    with pytest.raises(ValueError, match=r"the last layer must give logits: got dropout 0\.0, activation 'crelu'"):
        case.fresh(layers=case.layers[:1]).train()
    with pytest.raises(ValueError, match=r"keys must lie in 0\.\.4294967295"):
        make_case(dropout=0.5).fresh(keys=torch.full((3, 2), 1 << 32)).train()
    with pytest.raises(TypeError, match=r"keys must be a contiguous torch\.int64 tensor"):
        make_case(dropout=0.5).fresh(keys=torch.zeros(3, 2)).train()


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_closed_form_gradients_are_those_of_autograd(change: dict) -> None:
    case = make_case(permuted=True, **change)
    x, labels = case.task.inputs(case.order[:, 0]).double(), case.task.labels.gather(1, case.order[:, 0])
    masks = None if case.keys is None else reference.dropout_masks(case.layers, case.keys, case.steps, x.shape[1])
    grads, loss, _ = reference.gradients(case.params.double(), case.layers, x, labels, masks)
    row = case.params.double().requires_grad_()
    values, h = [], x
    for layer, mask in zip(case.layers, masks or [None] * 3):
        z = h @ reference.weight_of(row, layer).transpose(1, 2) + reference.bias_of(row, layer)[:, None]
        if layer.normed:
            scale, shift = (row[:, at : at + layer.outputs][:, None] for at in (layer.norm_scale, layer.norm_shift))
            z = torch.nn.functional.layer_norm(z, (layer.outputs,)) * scale + shift
        h = {"crelu": lambda z: torch.cat((z.relu(), (-z).relu()), 2), "tanh": torch.tanh, "identity": lambda z: z,
             "leaky_relu": torch.nn.functional.leaky_relu}[layer.activation](z)  # fmt: skip
        values.append(h)
        h = h if mask is None else h * mask
    expected = torch.nn.functional.cross_entropy(values[-1].transpose(1, 2), labels, reduction="none").mean(1)
    expected.sum().backward()
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-13, atol=0)
    torch.testing.assert_close(grads, row.grad, rtol=0, atol=1e-13)
