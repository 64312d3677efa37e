import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from assertions import assert_close, assert_same_bits
from torch import Tensor, nn

from fastplast.config import (
    ELEMENTWISE,
    INITS,
    MODULE_NETWORKS,
    NETWORK_NAMES,
    NETWORK_SUMMARIES,
    ConfigError,
    Experiment,
)
from fastplast.networks import NETWORKS, Dense, Layout, ModuleNetwork, Network, build_network
from fastplast.networks.activations import gain
from fastplast.seeding import words

SMALL = {"mlp": ((1, 6, 6), (9, 8, 7), None), "mlp13": ((1, 6, 6), (7,) * 13, None), "cnn": ((3, 9, 8), (7, 6), (4, 5))}
SMALL["convnet"] = ((3, 25, 24), (7, 6), (4, 5, 3))


def small(name: str, **fields: object) -> Network:
    shape, widths, channels = SMALL[name]
    return build_network(Experiment(network=name, widths=widths, channels=channels, **fields), shape, 4)


def test_slots_start_at_multiples_of_sixteen_floats_and_do_not_overlap() -> None:
    for name in NETWORK_NAMES:
        layout = small(name).layout
        ends = [0]
        for slot in layout.slots:
            assert slot.offset % 16 == 0
            assert ends[-1] <= slot.offset < ends[-1] + 16
            ends.append(slot.offset + slot.count)
        assert layout.size % 16 == 0
        assert ends[-1] <= layout.size < ends[-1] + 16


def test_a_layout_of_full_lines_has_no_padding() -> None:
    layout = Layout.pack({"a.weight": (4, 8), "a.bias": (16,), "b.weight": (3, 5)}, {"a.weight", "b.weight"})
    assert [(s.offset, s.count, s.is_weight) for s in layout.slots] == [(0, 32, True), (32, 16, False), (48, 15, True)]
    assert (layout.size, layout.count) == (64, 63)


def test_views_are_views_of_the_arena() -> None:
    layout = small("cnn").layout
    arena = torch.zeros(3, layout.size)
    views = layout.views(arena)
    assert [*views] == [slot.name for slot in layout.slots]
    for number, (slot, view) in enumerate(zip(layout.slots, views.values()), 1):
        assert view.shape == (3, *slot.shape)
        view += number
        assert (arena[:, slot.slice] == number).all()
    assert (arena == 0).sum() == 3 * (layout.size - layout.count)
    assert_same_bits("row", layout.views(arena[1])["fc1.weight"], views["fc1.weight"][1])


@pytest.mark.parametrize("members", [(), (3,), (2, 3)])
def test_a_row_is_put_together_from_its_views_with_zeros_in_the_padding(members) -> None:
    layout = small("cnn").layout
    flat = torch.randn(*members, layout.size)
    expected = torch.zeros_like(flat)
    for slot in layout.slots:
        expected[..., slot.slice] = flat[..., slot.slice]
    assert_same_bits("row", layout.row(layout.views(flat)), expected)


def test_the_backward_pass_of_views_is_one_concatenation() -> None:
    layout = small("mlp").layout
    row = torch.randn(layout.size, requires_grad=True)
    views = layout.views(row)
    parents = {view.grad_fn.next_functions[0][0] for view in views.values()}
    assert [parent.name() for parent in parents] == ["SplitWithSizesBackward0"]
    sum((i * view).sum() for i, view in enumerate(views.values(), 1)).backward()
    expected = torch.zeros(layout.size)
    for i, slot in enumerate(layout.slots, 1):
        expected[slot.slice] = i
    assert_same_bits("gradient", row.grad, expected)


def test_regularisers_weigh_matrices_and_neither_biases_nor_padding() -> None:
    layout = Layout.pack({"a.weight": (2, 3), "a.bias": (2,)}, {"a.weight"})
    for reduction, value in (("mean", 1 / 6), ("sum", 1.0)):
        assert_same_bits(reduction, layout.pull(reduction), torch.tensor([value] * 6 + [0.0] * 26))


def test_an_unknown_parameter_is_refused_with_the_list() -> None:
    with pytest.raises(KeyError, match=r"got 'fc9.weight'. Known: fc1.weight, fc1.bias,"):
        small("mlp").layout["fc9.weight"]


def test_parameter_counts_are_those_of_the_papers_networks() -> None:
    mlp = build_network(Experiment().resolved(), (1, 28, 28), 10)
    assert mlp.layout.count == 784 * 128 + 128 + 128 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10 == 111_146
    cnn = build_network(Experiment(benchmark="cifar_shuffle").resolved(), (3, 32, 32), 10)
    convolutions = 3 * 16 * 9 + 16 + 16 * 32 * 9 + 32 + 32 * 64 * 9 + 64
    assert cnn.layout.count == convolutions + 4 * 4 * 64 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10 == 91_594
    deep = build_network(Experiment(network="mlp13").resolved(), (1, 28, 28), 10)
    assert deep.layout.count == 784 * 128 + 128 + 10 * (128 * 128 + 128) + 8256 + 2080 + 330
    assert sum(isinstance(layer, Dense) for layer in deep.layers) == 14


@pytest.mark.parametrize("activation", ELEMENTWISE)
@pytest.mark.parametrize("name", NETWORK_NAMES)
def test_forward_equals_an_ordinary_module(name: str, activation: str, make_ordinary_module) -> None:
    network, (shape, widths, channels) = small(name, activation=activation, init="torch_default"), SMALL[name]
    module = make_ordinary_module(shape, 4, activation, widths, channels, name == "convnet")
    row, x = network.initial_parameters([5])[0], torch.randn(6, math.prod(shape))
    for parameter, value in zip(module.parameters(), network.layout.views(row).values(), strict=True):
        parameter.data = value.clone()
    outputs = [x]
    for stage in module:
        outputs.append(stage(outputs[-1]))
    hidden = [outputs[i + 2] for i, stage in enumerate(module[:-1]) if isinstance(stage, (nn.Conv2d, nn.Linear))]
    logits, features = network.forward(row, x)
    assert_close("logits", logits, outputs[-1], length=128)
    assert_same_bits("logits alone", network.logits(row, x), logits)
    for key, feature, expected in zip(network.feature_names, features, hidden, strict=True):
        assert_close(key, feature, expected, length=128)


def test_the_slope_of_leaky_relu_is_taken() -> None:
    network = small("mlp", activation="leaky_relu", leaky_slope=0.5)
    row, x = network.initial_parameters([1])[0], torch.randn(3, 36)
    plain, half = replace(network, slope=1.0).forward(row, x)[1][0], network.forward(row, x)[1][0]
    assert_close("leaky", half, torch.where(plain > 0, plain, 0.5 * plain), length=36)


def fans(weight: Tensor) -> tuple[int, int]:
    receptive = weight[0, 0].numel()
    return weight.shape[1] * receptive, weight.shape[0] * receptive


@pytest.mark.parametrize("activation", ELEMENTWISE)
@pytest.mark.parametrize("init", INITS)
def test_initial_weights_have_the_bounds_and_variance_of_their_distribution(init: str, activation: str) -> None:
    shape, widths = (3, 8, 8), (50, 40)
    e = Experiment(network="cnn", widths=widths, channels=(30, 20), init=init, activation=activation)
    network = build_network(e, shape, 10)
    for name, weight in network.layout.views(network.initial_parameters(list(range(20)))).items():
        if not name.endswith(".weight"):
            continue
        fan_in, fan_out = fans(weight[0])
        gains = {"relu": 2.0, "leaky_relu": 2 / (1 + 1e-4), "tanh": 25 / 9, "identity": 1.0}
        variance = {
            "glorot_uniform": 2 / (fan_in + fan_out),
            "torch_default": 1 / (3 * fan_in),
            "lecun_normal": 1 / fan_in,
            "kaiming_uniform": (gains[activation] if name != "fc3.weight" else 1.0) / fan_in,
        }[init]
        w, kurtosis = weight.double(), 3.0 if init == "lecun_normal" else 1.8
        assert abs(w.mean()) < 4.5 * math.sqrt(variance / w.numel())
        assert abs(w.var() / variance - 1) < 4.5 * math.sqrt((kurtosis - 1) / w.numel())
        if init != "lecun_normal":
            assert 0.99 < w.abs().max() / math.sqrt(3 * variance) < 1 + 1e-6


@pytest.mark.parametrize("init", [init for init in INITS if init != "torch_default"])
def test_initial_biases_and_padding_are_zero(init: str) -> None:
    network = small("cnn", init=init)
    arena = network.initial_parameters([0, 1])
    for slot in network.layout.slots:
        assert (arena[:, slot.slice] != 0).any() == slot.is_weight
        arena[:, slot.slice] = 0
    assert (arena == 0).all()


def test_torch_default_is_distributed_as_pytorch_initialises(make_ordinary_module) -> None:
    network, (shape, widths, channels) = small("cnn", init="torch_default"), SMALL["cnn"]
    ours = network.layout.views(network.initial_parameters(list(range(300))))
    torch.manual_seed(0)
    modules = [make_ordinary_module(shape, 4, "relu", widths, channels) for _ in range(300)]
    theirs = [[p.detach().flatten() for p in module.parameters()] for module in modules]
    for number, (name, values) in enumerate(ours.items()):
        a, b = values.flatten().sort().values, torch.cat([draw[number] for draw in theirs]).sort().values
        # Two-sample Kolmogorov-Smirnov test at 1e-4: sup |F - G| <= sqrt(-ln(1e-4 / 2) / 2 (n + m) / (n m)).
        at = torch.cat([a, b])
        distance = (torch.searchsorted(a, at) / len(a) - torch.searchsorted(b, at) / len(b)).abs().max()
        assert distance < math.sqrt(-math.log(0.5e-4) / 2 * (len(a) + len(b)) / (len(a) * len(b))), name
        assert_close(
            f"bound of {name}", a.abs().max(), b.abs().max(), scale=0.01 / (4 * torch.finfo(torch.float32).eps)
        )


def test_gains_are_those_of_pytorch() -> None:
    for name, known in (("relu", "relu"), ("tanh", "tanh"), ("identity", "linear")):
        assert gain(name, 0.01) == pytest.approx(nn.init.calculate_gain(known))
    assert gain("leaky_relu", 0.3) == pytest.approx(nn.init.calculate_gain("leaky_relu", 0.3))


@pytest.mark.parametrize("init", INITS)
def test_initial_parameters_of_a_seed_do_not_depend_on_its_batch_mates(init: str) -> None:
    network = small("cnn", init=init)
    together = network.initial_parameters([3, 8, 3, 11])
    assert_same_bits("alone", together[1], network.initial_parameters([8])[0])
    assert_same_bits("twice", together[0], together[2])
    assert (together[0] != together[1]).any()
    weights = [together[0, s.slice] for s in network.layout.slots if s.is_weight]
    assert not any(torch.allclose(a[:20] / a[0], b[:20] / b[0], rtol=1e-4) for a, b in pairwise(weights))


def test_defaults_of_every_network_are_listed() -> None:
    assert tuple(NETWORKS) == tuple(NETWORK_SUMMARIES) == (*NETWORK_NAMES, *MODULE_NETWORKS)
    assert NETWORKS["mlp"].widths == (128, 64, 32)
    assert (NETWORKS["cnn"].channels, NETWORKS["cnn"].widths) == ((16, 32, 64), (64, 32))
    assert (
        NETWORKS["mlp13"].widths == (128,) * 10 + NETWORKS["mlp"].widths
    )  # appendix F: ten layers before those of B.1


def test_a_convolution_of_no_image_is_refused() -> None:
    with pytest.raises(ConfigError, match="--network cnn needs images of at least 2 x 2 pixels: got inputs of shape"):
        build_network(Experiment(network="cnn"), (1, 1, 50), 10)


class Own(nn.Module):
    """Any module: a convolution without bias, LayerNorm, dropout, a branch, a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 2, 3, bias=False), nn.LayerNorm(2 * 7 * 6)
        self.scale = nn.Parameter(torch.rand(1))
        self.body, self.drop, self.head = nn.Linear(84, 9), nn.Dropout(0.5), nn.Linear(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.conv(x).flatten(1))
        return self.head(self.drop(torch.tanh(self.body(h) * self.scale)))


IMAGE = (3, 9, 8)


def test_a_module_runs_as_it_would_by_itself() -> None:
    network, x = ModuleNetwork(Own, IMAGE, 4), torch.randn(5, 3, 9, 8)
    network.train(False)
    row = network.initial_parameters([3])[0]
    module = Own().eval()
    module.load_state_dict(network.layout.views(row))
    logits, features = network.forward(row, x.flatten(1))
    assert_close("logits", logits, module(x), length=84)
    hidden = torch.tanh(module.body(module.norm(module.conv(x).flatten(1))) * module.scale)
    assert [*network.feature_names] == ["last"]
    assert_close("features", features[0], hidden, length=84)
    assert_same_bits("logits alone", network.logits(row, x.flatten(1)), logits)
    assert not module.head._forward_pre_hooks


def test_a_module_of_a_seed_is_its_own_initialisation_and_independent_of_batch_mates() -> None:
    network = ModuleNetwork(Own, IMAGE, 4)
    state = torch.random.get_rng_state()
    arena = network.initial_parameters([5, 9, 5])
    assert_same_bits("global random state", torch.random.get_rng_state(), state)
    assert_same_bits("alone", network.initial_parameters([9])[0], arena[1])
    assert_same_bits("twice", arena[0], arena[2])
    assert (arena[0] != arena[1]).any()
    views = network.layout.views(arena)
    assert views["norm.weight"].eq(1).all()
    assert 0.9 < views["body.weight"].abs().max() * math.sqrt(84) <= 1 + 1e-6


def test_weights_of_a_module_are_its_parameters_of_two_or_more_dimensions() -> None:
    network = ModuleNetwork(Own, IMAGE, 4)
    assert {s.name for s in network.layout.slots if s.is_weight} == {"conv.weight", "body.weight", "head.weight"}
    assert network.layout.count == sum(p.numel() for p in Own().parameters())
    assert network.name == "module:Own"


def test_a_module_without_a_linear_layer_has_no_features() -> None:
    network = ModuleNetwork(lambda: nn.Sequential(nn.Conv2d(3, 4, (9, 8)), nn.Flatten()), IMAGE, 4)
    assert network.forward(network.initial_parameters([0])[0], torch.zeros(2, 216))[1] == []


def test_a_frozen_parameter_is_refused_or_each_members_own() -> None:
    def half_frozen() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(216, 9).requires_grad_(False), nn.Linear(9, 4))

    try:
        network = ModuleNetwork(half_frozen, IMAGE, 4)
    except ValueError as error:
        assert "frozen" in str(error)  # noqa: PT017
        return
    x, row = torch.ones(1, 216), network.initial_parameters([7])[0]
    torch.manual_seed(int(words(7, "module", 1)[0] >> 1))
    assert_close("logits", network.logits(row, x), half_frozen()(x), length=216)


class Tempered(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.temperature, self.head = nn.Parameter(torch.rand(())), nn.Linear(216, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1)) * self.temperature


def test_a_module_may_have_a_scalar_parameter() -> None:
    network = ModuleNetwork(Tempered, IMAGE, 4)
    row = network.initial_parameters([0])[0]
    assert network.layout.views(row)["temperature"].shape == ()
    assert (network.logits(row, torch.ones(1, 216)) != 0).all()


class Pair(nn.Linear):
    def __init__(self) -> None:
        super().__init__(8, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x), x


@pytest.mark.parametrize(
    ("factory", "error", "text"),
    [
        (
            lambda: nn.Sequential(nn.InstanceNorm2d(3, track_running_stats=True), nn.Flatten(), nn.Linear(216, 4)),
            ValueError,
            "keep running statistics: got buffers 0.running_mean",
        ),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(216, 5)), ValueError, r"to \[B, 4\]: got \[2, 5\] for B = 2"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(215, 4)), ValueError, r"must take inputs \[B, 3, 9, 8\]"),
        (lambda: nn.Flatten(), ValueError, "must have trainable parameters: got none in module:Flatten"),
        (lambda: torch.zeros(3), TypeError, "must return an nn.Module: got Tensor. Pass a module factory."),
        (lambda: Pair(), ValueError, r"must map \[B, 3, 9, 8\] to \[B, 4\]"),
        (nn.Linear(216, 4), TypeError, "Pass a module factory."),
    ],
    ids=["buffers", "wrong-classes", "wrong-inputs", "no-parameters", "no-module", "tuple", "instance"],
)
def test_a_module_that_cannot_be_a_network_is_refused(factory, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ModuleNetwork(factory, IMAGE, 4)
