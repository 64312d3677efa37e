"""Convolutions as products: equal to PyTorch's, also for many members at once, and no grouped convolution on a GPU."""

from types import SimpleNamespace

import pytest
import torch
from assertions import assert_close
from small_runs import small
from torch.func import grad, vmap
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from fastplast.networks.convolution import convolve, convolve_by_product
from fastplast.problems import make_task
from fastplast.training.setup import prepare

SIZES = [(3, 1, 1, 8), (3, 2, 1, 9), (5, 1, 0, 12), (3, 1, 0, 5), (3, 2, 1, 2)]  # kernel, stride, padding, side


@pytest.mark.parametrize(("kernel", "stride", "padding", "side"), SIZES)
def test_a_convolution_by_products_is_a_convolution(kernel, stride, padding, side) -> None:
    x, weight, bias = torch.randn(6, 3, side, side), torch.randn(4, 3, kernel, kernel), torch.randn(4)
    expected = functional.conv2d(x, weight, bias, stride=stride, padding=padding)
    found = convolve_by_product(x, weight, bias, stride, padding)
    assert_close("outputs", found, expected, dtype=torch.float32, length=3 * kernel**2)
    assert torch.equal(convolve(x, weight, bias, stride, padding), expected)


@pytest.mark.parametrize(("kernel", "stride", "padding", "side"), SIZES)
def test_gradients_of_many_members_are_those_of_each(kernel, stride, padding, side) -> None:
    shapes = (5, 6, 3, side, side), (5, 4, 3, kernel, kernel), (5, 4)
    parts = tuple(torch.randn(shape, dtype=torch.float64) for shape in shapes)

    def loss(x, weight, bias):
        return convolve_by_product(x, weight, bias, stride, padding).sin().sum()

    def expected(x, weight, bias):
        return functional.conv2d(x, weight, bias, stride=stride, padding=padding).sin().sum()

    found = vmap(grad(loss, argnums=(0, 1, 2)))(*parts)
    for m in range(5):
        own = grad(expected, argnums=(0, 1, 2))(*(part[m] for part in parts))
        for ours, theirs in zip(found, own):
            assert_close("gradient", ours[m], theirs, dtype=torch.float64, length=side**2 * 6)


class Operations(TorchDispatchMode):
    """Counts what reaches the device."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("network", ["cnn", "convnet"])
def test_members_are_trained_by_products_without_a_convolution(network, tmp_path, monkeypatch) -> None:
    changes = {"benchmark": "cifar_shuffle", "network": network, "seeds": 3, "widths": None, "engine": "vmap"}
    setup = prepare(small(tmp_path / "a", **changes))
    task, order, before = make_task(setup.problem, 0), torch.arange(8).expand(3, 1, 8), setup.state.params.clone()
    found, called = [], []
    for one in (convolve, convolve_by_product):
        monkeypatch.setattr("fastplast.networks.builtin.convolve", one)
        setup.state.params.copy_(before)
        for part in (setup.state.m, setup.state.v, setup.state.steps):
            part.zero_()
        with Operations() as seen:
            setup.engine.run(setup.state, task, order)
        found.append(setup.state.m.clone())
        called.append({name for name in seen.names if "convolution" in name})
    assert called == [{"convolution", "convolution_backward"}, set()]
    assert_close("first moments", found[1], found[0], dtype=torch.float32, length=1000)


def test_a_gpu_takes_products(monkeypatch) -> None:
    monkeypatch.setattr("fastplast.networks.convolution.convolve_by_product", lambda *given: given)
    x = SimpleNamespace(device=torch.device("cuda", 1))
    assert convolve(x, "weight", "bias", 2, 1) == (x, "weight", "bias", 2, 1)
