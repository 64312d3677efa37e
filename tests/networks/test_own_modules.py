"""Modules of users that no group could be made of are refused, with what to do."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fastplast as fp
from fastplast.config import Experiment
from fastplast.data import from_arrays
from fastplast.measuring.group import measure_group
from fastplast.measuring.hessian import block_names
from fastplast.networks import ModuleNetwork
from fastplast.problems import make_task
from fastplast.training.setup import prepare
from fastplast.training.start import start

IMAGE = (3, 9, 8)


class Listed(nn.Module):
    """Its hidden layer is in a plain list: no parameter of the module."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = [nn.Linear(216, 6)], nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.hidden[0](x.flatten(1))))


class Shifted(nn.Module):
    """A random tensor that is no parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.shift, self.head = torch.randn(216), nn.Linear(216, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1) + self.shift)


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(216, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(nn.functional.dropout(x.flatten(1), 0.3))


class Noisy(Dropping):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1) + float(np.random.random()))


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(216, 4, dtype=torch.complex64)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1).cfloat()).abs()


SHARED = nn.Linear(216, 4)


def same_linear() -> nn.Module:
    return nn.Sequential(nn.Flatten(), SHARED)


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        (Listed, "no part of parameters.*Use nn.ModuleList"),
        (Shifted, "seed 1 that computes something else"),
        (same_linear, "must make new parameters at every call"),
        (Dropping, "must compute the same twice in evaluation: got a random module:Dropping"),
        (Noisy, "must compute the same twice in evaluation: got a random module:Noisy"),
        (Complex, "must have real parameters: got head.weight of torch.complex64"),
    ],
    ids=["list", "tensor", "shared", "dropout", "numpy", "complex"],
)
def test_what_differs_between_seeds_or_passes_and_is_no_parameter_is_refused(factory, text: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=text):
        ModuleNetwork(factory, IMAGE, 4).initial_parameters([0, 1])


def test_a_module_with_other_shapes_for_another_seed_is_refused() -> None:
    def factory() -> nn.Module:
        width = 5 + int(torch.randint(1000, ()))
        return nn.Sequential(nn.Flatten(), nn.Linear(216, width), nn.Linear(width, 4))

    with pytest.raises(ValueError, match="must have the same parameters for every seed: got others for seed 1"):
        ModuleNetwork(factory, IMAGE, 4).initial_parameters([0, 1])


class Auxiliary(nn.Module):
    """A layer that is registered last and called by name, or not at all."""

    def __init__(self, called: bool) -> None:
        super().__init__()
        self.called, self.head, self.last = called, nn.Linear(216, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.head(x.flatten(1))
        return self.last(input=h) if self.called else h


@pytest.mark.parametrize("called", [True, False])
def test_the_last_linear_layer_may_be_called_by_name_or_not_at_all(called: bool) -> None:
    network = ModuleNetwork(lambda: Auxiliary(called), IMAGE, 4)
    row, x = network.initial_parameters([0])[0], torch.randn(5, 216)
    logits, features = network.forward(row, x)
    assert torch.equal(logits, network.logits(row, x))
    parameters = network.layout.views(row)
    head = nn.functional.linear(x, parameters["head.weight"], parameters["head.bias"])
    (found,) = features
    assert torch.equal(found, head if called else x)
    assert block_names(network) == (
        ("head.weight", "head.bias", "last.weight", "last.bias") if called else ("head.weight", "head.bias")
    )


class InOrder(nn.Module):
    """Layers a, b, c and a head, registered in any order and called in this one, the head in one of several ways."""

    def __init__(self, order: str, way: str = "module") -> None:
        super().__init__()
        self.way = way
        made = {"a": nn.Linear(216, 6), "b": nn.Linear(6, 7), "c": nn.LayerNorm(7), "h": nn.Linear(7, 4)}
        if way == "parameters":
            del made["h"]
            self.bias, self.weight = nn.Parameter(torch.zeros(4)), nn.Parameter(torch.randn(4, 7))
        for letter in order:
            if letter in made:
                self.add_module(letter, made[letter])

    def forward(self, x: Tensor) -> Tensor:
        out = self.c(self.b(self.a(x.flatten(1)).tanh()))
        if self.way == "parameters":
            return nn.functional.linear(out, self.weight, self.bias)
        if self.way == "functional":
            return nn.functional.linear(input=out, weight=self.h.weight, bias=self.h.bias)
        if self.way == "forward":
            return self.h.forward(out)
        if self.way == "products":
            return out @ self.h.weight.T + self.h.bias
        return self.h(out)


@pytest.mark.parametrize("way", ["module", "functional", "forward", "parameters", "products"])
@pytest.mark.parametrize("order", ["abch", "hcba", "chab"])
def test_the_head_is_what_is_called_last_wherever_it_is_registered_and_however_it_is_called(order, way) -> None:
    network = ModuleNetwork(lambda: InOrder(order, way), IMAGE, 4)
    row, x = network.initial_parameters([0])[0], torch.randn(5, 216)
    head = {"weight", "bias"} if way == "parameters" else {"h.weight", "h.bias"}
    names = [slot.name for slot in network.layout.slots]
    block = block_names(network)
    assert set(block) == {"b.weight", "b.bias", "c.weight", "c.bias"} | head
    assert [*block] == [name for name in names if name in block]
    logits, (features,) = network.forward(row, x)
    assert torch.equal(logits, network.logits(row, x))
    p = network.layout.views(row)
    a = nn.functional.linear(x, p["a.weight"], p["a.bias"]).tanh()
    b = nn.functional.linear(a, p["b.weight"], p["b.bias"])
    last = a if way == "products" else nn.functional.layer_norm(b, (7,), p["c.weight"], p["c.bias"])
    assert torch.equal(features, last)


class Recurrent(nn.Module):
    """The head is registered first; a cell is called several times, and the first layer's weight is seen last."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.cell, self.first = nn.Linear(5, 4), nn.GRUCell(6, 5), nn.Linear(36, 6)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 5)
        for part in x.flatten(1).split(36, 1):
            h = self.cell(self.first(part), h)
        return self.head(h) / self.first.weight.shape[1]


def test_the_last_use_of_a_parameter_counts_and_its_shape_is_no_use() -> None:
    network = ModuleNetwork(Recurrent, IMAGE, 4)
    cell = ("cell.weight_hh", "cell.bias_ih", "cell.bias_hh")
    assert block_names(network) == ("head.weight", "head.bias", *cell)
    row, x = network.initial_parameters([0])[0], torch.randn(3, 216)
    assert network.forward(row, x)[1][0].shape == (3, 5)


def test_the_hessian_does_not_depend_on_the_order_of_registration() -> None:
    """Nor do features; layers that are registered and not called change neither."""
    images = torch.randint(0, 256, (64, 9, 8, 3), dtype=torch.uint8).numpy()
    data = from_arrays(images, np.arange(64) % 4)
    state = InOrder("abch").state_dict()

    def made(order: str) -> nn.Module:
        module = InOrder(order)
        module.load_state_dict(state)
        module.unused = nn.Linear(4, 4)
        return module

    found = []
    for order in ("abch", "hcba"):
        setup = prepare(Experiment(seeds=1, examples=64, tasks=1), lambda order=order: made(order), data)
        task = make_task(setup.problem, 0)
        pull, both = setup.engine.pull, {"with_probes": True, "with_hessian": True}
        found.append(measure_group(setup.group, setup.state, task, pull, **both).columns)
    first, second = found
    assert first["hessian_dimension"] == second["hessian_dimension"] == [6 * 7 + 7 + 14 + 4 * 7 + 4]
    for name in ("hessian_srank", "feature_srank_last", "dormant_fraction"):
        assert first[name] == second[name]
    assert first["hessian_trace"] == pytest.approx(second["hessian_trace"], rel=1e-12)


class Centred(nn.Module):
    """Constant buffers of several kinds: a mean, positions, an index, a fixed projection; some are not stored."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((216,), 0.25))
        self.register_buffer("order", torch.arange(215, -1, -1), persistent=False)
        self.register_buffer("projection", torch.linspace(-0.1, 0.1, 216 * 6).view(6, 216))
        self.hidden, self.head = nn.Linear(6, 5), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.linear((x.flatten(1) - self.mean)[:, self.order], self.projection)
        return self.head(torch.tanh(self.hidden(x)))


class WrittenOut(Centred):
    """The same without buffers."""

    def __init__(self) -> None:
        super().__init__()
        del self.mean, self.order, self.projection

    def forward(self, x: Tensor) -> Tensor:
        projection = torch.linspace(-0.1, 0.1, 216 * 6, dtype=torch.float32).view(6, 216).to(x.dtype)
        x = nn.functional.linear((x.flatten(1) - 0.25).flip(1), projection)
        return self.head(torch.tanh(self.hidden(x)))


def test_constant_buffers_are_kept_and_measured_in_float64(tmp_path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (32, 9, 8, 3), np.uint8)
    data, found = from_arrays(images, np.arange(32) % 4), []
    for factory in (Centred, WrittenOut):
        network = ModuleNetwork(factory, IMAGE, 4)
        assert network.measuring_dtype == torch.float64
        experiment = Experiment(seeds=2, tasks=2, epochs=2, examples=32, out=str(tmp_path / factory.__name__))
        found.append(fp.train(experiment, network=factory, dataset=data).metrics().drop(columns="network"))
    first, second = found
    numbers = first.select_dtypes("number").columns
    np.testing.assert_array_equal(first[numbers], second[numbers])
    assert set(first.hessian_dimension[first.when == "start"]) == {6 * 5 + 5 + 5 * 4 + 4}


class Counting(Dropping):
    """Keeps a number that training changes."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls += 1
        return self.head(x.flatten(1))


class Momentum(Counting):
    """Puts another tensor in the place of a buffer."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.calls = 0.9 * self.calls + 0.1 * x.mean()
        return self.head(x.flatten(1) - self.calls)


def spectral() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(216, 4)))


def of_its_seed() -> nn.Module:
    module = Centred()
    module.mean = torch.randn(216)
    return module


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        (lambda: nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True), nn.Flatten(), nn.Linear(216, 4)),
         "running statistics: got buffers 0.running_mean, 0.running_var. Use LayerNorm"),
        (spectral, r"running statistics: got buffers 1\.parametrizations\.weight\.0\._u"),
        (Counting, "running statistics: got buffers calls.*Buffers may be constant"),
        (Momentum, "running statistics: got buffers calls.*Buffers may be constant"),
        (of_its_seed, "must differ between seeds in its parameters only"),
    ],
    ids=["instance norm", "spectral norm", "counter", "replaced", "random"],
)  # fmt: skip
def test_buffers_that_training_changes_or_that_differ_between_seeds_are_refused(factory, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ModuleNetwork(factory, IMAGE, 4).initial_parameters([0, 1])


def test_a_run_is_not_resumed_with_other_constants(tmp_path) -> None:
    def other() -> nn.Module:
        module = Centred()
        module.mean += 0.5
        return module

    other.__qualname__ = "Centred"
    images = np.random.default_rng(0).integers(0, 256, (32, 9, 8, 3), np.uint8)
    data, experiment = (
        from_arrays(images, np.arange(32) % 4),
        Experiment(seeds=1, tasks=2, epochs=1, examples=32, srank="off", out=str(tmp_path / "a")),
    )
    _, events = start(experiment, Centred, dataset=data)
    next(events)
    events.close()
    with pytest.raises(ValueError, match="network"):
        fp.resume(tmp_path / "a", network=other, dataset=data)
    assert fp.resume(tmp_path / "a", network=Centred, dataset=data).is_finished


class Insisting(Dropping):
    """Takes float32 only, and says so in a way of its own."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.error = error

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise self.error("float32, please")
        return self.head(x.flatten(1))


@pytest.mark.parametrize("error", [RuntimeError, TypeError, AssertionError, ValueError])
def test_a_module_that_takes_float32_only_is_measured_in_it(error) -> None:
    network = ModuleNetwork(lambda: Insisting(error), IMAGE, 4)
    assert network.measuring_dtype == torch.float32
    row, x = network.initial_parameters([0])[0], torch.randn(5, 216)
    logits, _ = network.forward(row, x, torch.float64)
    assert torch.equal(logits, network.logits(row, x))
