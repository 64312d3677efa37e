"""Layer normalisation, CReLU and dropout of convolutions on the GPU against their definition, and their bits."""

from dataclasses import replace

import pytest
import torch
from conv_case import ConvCase, make_conv_case

pytest.importorskip("triton", reason="needs Triton")

from fastplast_kernels.train_step.layers import DenseLayer
from test_engine_cuda_gpu import on
from trained import check, check_bits, steady, step_of, to

from fastplast.config import Member
from fastplast.engines import CudaEngine, VmapEngine

pytestmark = pytest.mark.usefixtures("small_buckets", "small_tiles")
TINY = {"shape": (2, 3, 4), "convolutions": ((3, 3, 1, 1),), "sizes": (4, 3)}
TWO = {"shape": (2, 5, 4), "convolutions": ((3, 3, 2, 1), (2, 2, 1, 0)), "sizes": (4, 3)}
WINDOWS = {"shape": (2, 6, 7), "convolutions": ((3, 3, 1, 1), (2, 2, 1, 0)), "sizes": (4, 3), "pool": 2}  # not of all
ALL = {"activation": "crelu", "norm": True, "dropout": 0.3}


def modified(**options: object) -> ConvCase:
    """A case that steps of Adam magnify no rounding errors of."""
    return steady(make_conv_case(**{**TINY, "batch": 4, "steps": 1, "members": 2, **options}))


CHANGES = {
    "dropout": ({"activation": "tanh", "dropout": 0.4}, TWO, 5, "sgd", "none"),
    "dropout, pooled": ({"activation": "leaky_relu", "dropout": 0.4}, WINDOWS, 3, "adam", "none"),
    "crelu": ({"activation": "crelu"}, TWO, 4, "adamw", "l2"),
    "crelu, pooled": ({"activation": "crelu"}, WINDOWS, 3, "sgd", "none"),
    "norm": ({"activation": "leaky_relu", "norm": True}, TWO, 4, "adam", "regenerative"),
    "norm, pooled": ({"activation": "tanh", "norm": True}, WINDOWS, 3, "adam", "none"),
    "all": (ALL, TWO, 4, "adam", "wasserstein"),
    "all, pooled": (ALL, WINDOWS, 3, "adamw", "l2"),
}


@pytest.mark.parametrize(("change", "network", "batch", "optimizer", "pull"), CHANGES.values(), ids=CHANGES)
def test_modified_convolutions_equal_the_definition(change, network, batch, optimizer, pull, device):
    """With a ragged batch, weight decay, poisoned memory, and programs in any order."""
    case = modified(
        **network, **change, batch=batch, permuted=True, pull=pull, optimizer=optimizer,
        decoupled=optimizer == "adamw",
    )  # fmt: skip
    case.order[:, :, batch - 1 :] = -1
    case.hyper.weight_decay[1] = 0.05
    check(case, device, poisoned=True, seed=1)


@pytest.mark.parametrize(
    ("shape", "convolutions", "pool", "batch", "members"),
    [
        ((1, 6, 7), ((17, 3, 1, 1),), 3, 2, 1),  # more channels than at a time
        ((1, 7, 8), ((2, 2, 1, 1),), 1, 16, 1),  # more pixels
        ((2, 4, 4), ((3, 2, 1, 0),), 1, 1, 3),
        ((2, 7, 6), ((3, 2, 1, 0), (4, 3, 2, 1)), (2, 1), 7, 1),
    ],
)
def test_modified_convolutions_of_any_size_equal_the_definition(shape, convolutions, pool, batch, members, device):
    case = modified(
        shape=shape, convolutions=convolutions, pool=pool, batch=batch, members=members, sizes=(3,), norm=True,
        activation="crelu", dropout=0.2,
    )  # fmt: skip
    check(case, device, poisoned=True, seed=2)


def test_twenty_chained_modified_steps_equal_the_definition(device):
    tiny = {"shape": (1, 3, 3), "convolutions": ((2, 2, 1, 0),), "sizes": (3,)}
    check(modified(**tiny, **ALL, members=1, batch=2, steps=20), device)


@pytest.mark.parametrize("first", [False, True])
def test_plain_and_modified_convolutions_may_follow_each_other(first, device):
    """Of two layers only one is normalised; places of its scales and shifts in the rows are left unused."""
    case = modified(**TWO, activation="tanh", norm=True, optimizer="sgd")
    layers = list(case.layers)
    plain = 0 if first else 1
    layers[plain] = replace(layers[plain], norm_scale=-1, norm_shift=-1)
    used = torch.zeros_like(case.params, dtype=torch.bool)
    for layer in layers:
        for start, count in ((layer.weight, layer.inputs * layer.outputs), (layer.bias, layer.outputs)):
            used[:, start : start + count] = True
        if layer.normed:
            used[:, layer.norm_scale : layer.norm_scale + layer.outputs] = True
            used[:, layer.norm_shift : layer.norm_shift + layer.outputs] = True
    for tensor in (case.params, case.m, case.v):
        tensor *= used
    check(replace(case, layers=tuple(layers)), device, poisoned=True, seed=3)


def test_modified_convolutions_take_two_launches_more_each_and_one_for_all_scales(device):
    plain, whole = (step_of(to(modified(**TWO, **change), device)).launches for change in ({}, ALL))
    assert whole == plain + 2 * 2 + 1


def test_a_modified_member_has_the_same_bits_alone_in_any_order_of_programs_and_in_parts(device):
    case = make_conv_case(**TINY, **ALL, pool=2, members=2, batch=3, steps=2, pull="regenerative")
    case.order[:, 1, 2:] = -1
    check_bits(case, device, poisoned=True)


def test_dropout_of_convolutions_without_keys_is_refused(device):
    case = to(modified(dropout=0.5), device)
    case = replace(case, layers=tuple(
        replace(layer, dropout=0.0) if isinstance(layer, DenseLayer) else layer for layer in case.layers
    ))  # fmt: skip
    with pytest.raises(ValueError, match="keys must be given where a layer has dropout: got None"):
        step_of(replace(case, keys=None))


@pytest.mark.parametrize("network", ["cnn", "convnet"])
def test_a_modified_network_trains_as_by_the_vmap_engine(network, device, make_trial):
    members = (Member(30, 1e-3, "none", 0.0), Member(31, 1e-3, "regenerative", 0.1))
    trial = make_trial(
        members, network=network, benchmark="cifar_shuffle", activation="crelu", layer_norm=True, dropout=0.2,
        optimizer="sgd", examples=2, batch_size=1 if network == "convnet" else 2, widths=(4,), channels=(2, 3),
    )  # fmt: skip
    slow, fast = (on(trial, device, kind) for kind in (VmapEngine, CudaEngine))
    slow.train(1), fast.train(1)
    assert float((slow.state.params - slow.state.init).abs().max()) > 0
    torch.testing.assert_close(fast.state.params, slow.state.params, rtol=1e-4, atol=1e-6)
