"""Max pooling on the GPU against its definition, and its bits against themselves."""

from dataclasses import replace

import pytest
import torch
from conv_case import ConvCase, make_conv_case

pytest.importorskip("triton", reason="needs Triton")

from fastplast_kernels.train_step.gpu_conv_launches import MOST_POOL, convolutions_of
from fastplast_kernels.train_step.reference import weight_of
from trained import check, check_bits, steady, to, train

pytestmark = pytest.mark.usefixtures("small_buckets", "small_tiles")
TINY = {"shape": (2, 3, 4), "convolutions": ((3, 3, 1, 1),), "sizes": (4, 3), "pool": 2}  # a row is in no window
TWO = {**TINY, "shape": (2, 6, 7), "convolutions": ((3, 3, 1, 1), (2, 2, 1, 0))}  # 6 x 7, 3 x 3, 2 x 2, 1 x 1


def pooled(**options: object) -> ConvCase:
    """A case that steps of Adam magnify no rounding errors of."""
    return steady(make_conv_case(**{**TINY, "batch": 4, "steps": 2, "members": 2, **options}))


@pytest.mark.parametrize(
    ("network", "activation", "optimizer", "decoupled", "pull"),
    [
        (TWO, "relu", "adam", False, "none"), (TINY, "leaky_relu", "adam", True, "l2"),
        (TWO, "tanh", "sgd", False, "regenerative"), (TINY, "identity", "sgd", True, "wasserstein"),
    ],
)  # fmt: skip
def test_steps_with_pooling_equal_the_definition(network, activation, optimizer, decoupled, pull, device):
    """With a ragged batch, weight decay, poisoned memory, and programs in any order."""
    rule = {"activation": activation, "optimizer": optimizer, "decoupled": decoupled, "pull": pull}
    case = pooled(**network, **rule, steps=1, permuted=True)
    case.order[:, :, 3:] = -1
    case.hyper.weight_decay[1] = 0.05
    check(case, device, poisoned=True, seed=1)


@pytest.mark.parametrize(
    ("shape", "convolutions", "pool", "batch"),
    [
        ((1, 6, 7), ((17, 3, 1, 1),), 3, 5),
        ((1, 9, 9), ((4, 4, 2, 2), (5, 2, 1, 1)), 2, 3),
        ((2, 7, 6), ((3, 2, 1, 0), (4, 3, 2, 1)), (2, 1), 1),
        ((2, 7, 6), ((3, 3, 2, 1), (4, 2, 1, 1)), (1, 4), 7),
        ((1, 12, 13), ((3, 5, 1, 0), (4, 3, 1, 0)), 2, 3),  # as in Continual ImageNet
    ],
)
def test_windows_of_any_size_equal_the_definition(shape, convolutions, pool, batch, device):
    case = pooled(shape=shape, convolutions=convolutions, pool=pool, batch=batch, members=1, activation="tanh", steps=1)
    check(case, device, poisoned=True, seed=2)


def test_twenty_chained_steps_with_pooling_equal_the_definition(device):
    tiny = {"shape": (1, 4, 5), "convolutions": ((2, 2, 1, 0),), "sizes": (3,)}
    check(pooled(**tiny, activation="tanh", members=1, batch=3, steps=20), device)


def test_the_first_of_equal_maxima_has_the_gradient(device):
    case = pooled(activation="identity", steps=1)
    weight_of(case.params, case.layers[0]).zero_()  # every pixel is the bias: all are equal, and their patches are not
    check(case, device, poisoned=True, seed=3)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of NumPy
def test_a_value_that_is_no_number_is_not_passed_over(device):
    """Where each pixel is seen by itself."""
    case = pooled(convolutions=((3, 1, 1, 0),), floats=True, activation="tanh", members=2)
    case.task.images[case.task.rows[1, case.order[1, 1, 0]], 7] = torch.nan
    own = to(case, device)
    train(own)
    expected = case.fresh()
    expected.train_reference()
    assert own.diverged.tolist() == expected.diverged.tolist()
    assert own.diverged[1] >= 0


def test_a_member_with_pooling_has_the_same_bits_alone_in_any_order_of_programs_and_in_parts(device):
    case = make_conv_case(**TINY, members=2, batch=3, steps=2, pull="regenerative")
    case.order[:, 1, 2:] = -1
    check_bits(case, device, poisoned=True)


def test_pooling_that_one_kernel_cannot_update_is_refused():
    layers = make_conv_case(shape=(2, 20, 20), convolutions=((3, 1, 1, 0),) * 3).layers
    with pytest.raises(ValueError, match=r"pool must be the same above the first layer: got \[1, 2\]\. Use another"):
        convolutions_of([*layers[:2], replace(layers[2], pool=2)])
    with pytest.raises(ValueError, match=r"pool must be at most 16: got 17\. Use another engine"):
        convolutions_of([replace(layers[0], pool=MOST_POOL + 1)])
