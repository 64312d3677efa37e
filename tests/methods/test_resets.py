"""The reset of units: what exactly changes, in which order, and how Adam counts afterwards."""

import math
from dataclasses import replace

import pytest
import torch
from assertions import assert_close, assert_same_bits
from fastplast_kernels.optimisers import Hyperparameters
from fastplast_kernels.update import update

from fastplast.config import Experiment
from fastplast.methods import Arenas, Choice, Reset, count_units, hidden_layers, own_coefficients, reset_units
from fastplast.methods.units import fired, from_inputs, incoming_mean, outgoing_mean, received, to_inputs, unit_mean
from fastplast.networks import build_network


def network(**fields):
    small = {"network": "cnn", "channels": (3, 4), "widths": (6, 5), "layer_norm": True}
    return build_network(Experiment(**small | fields), (2, 8, 8), 3)


NETWORKS = {
    "cnn": network(),
    "crelu": network(activation="crelu"),
    "pooled": build_network(Experiment(network="convnet", channels=(3, 4, 5), widths=(6, 5)), (2, 24, 24), 3),
    "mlp": network(network="mlp", channels=None, init="torch_default"),
}


def arenas(net, members: int = 2) -> Arenas:
    """Parameters and moments, nowhere zero."""
    torch.manual_seed(0)
    params = net.initial_parameters(list(range(members)))
    m, v = torch.rand_like(params) + 1, torch.rand_like(params) + 1
    return Arenas(params + 0.1, m, v, torch.zeros(members, 2, count_units(net), dtype=torch.int64))


def chosen(net, *units: tuple[int, int, int], members: int = 2) -> Choice:
    """(member, layer, unit) of each."""
    masks = [torch.zeros(members, hidden.units, dtype=torch.bool) for hidden in hidden_layers(net)]
    for member, layer, unit in units:
        masks[layer][member, unit] = True
    return Choice(masks)


def copied(before: Arenas) -> Arenas:
    return Arenas(*(arena.clone() for arena in before))


def touched(net, member: int, layer: int, unit: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Elements `[P]` that come into a unit, and those that go out of it, found by what they act on."""
    hidden = hidden_layers(net)[layer]
    incoming, outgoing = torch.zeros(net.layout.size), torch.zeros(net.layout.size)
    for name, view in net.layout.views(incoming).items():
        if name.startswith(f"{hidden.layer.name}."):
            view[unit] = 1.0
    row, x = net.initial_parameters([7])[0], torch.rand(1, math.prod(net.shape))
    views = net.layout.views(row)
    h = torch.zeros_like(net.forward(row, x)[1][layer])
    h[:, unit :: hidden.units] = 1.0
    if getattr(hidden.layer, "pool", 1) > 1:
        h = torch.nn.functional.max_pool2d(h, hidden.layer.pool)
    plain = replace(hidden.after, activated=False, norm=False)
    slope = torch.func.grad(lambda w: net.run((plain,), views | {hidden.next_weight: w}, h)[0].sum())(
        views[hidden.next_weight]
    )
    net.layout.views(outgoing)[hidden.next_weight].copy_((slope != 0).float())
    return incoming > 0, outgoing > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_a_reset_changes_what_comes_in_and_goes_out_of_the_unit_and_nothing_else(name):
    net = NETWORKS[name]
    for layer, hidden in enumerate(hidden_layers(net)):
        before = arenas(net)
        after, unit = copied(before), hidden.units - 1
        reset_units(net, after, chosen(net, (1, layer, unit)), [3, 4], [10, 20])
        incoming, outgoing = touched(net, 1, layer, unit)
        for old, new in zip(before, after):
            assert_same_bits("other member", new[0], old[0])
        for part, (old, new) in enumerate(zip(before[:3], after[:3])):
            assert torch.equal(new[1] != old[1], incoming | outgoing), hidden.layer.name
            assert (new[1][outgoing] == 0).all()
            assert part == 0 or (new[1][incoming] == 0).all()
        number = hidden.first + unit
        assert torch.nonzero(after.born).tolist() == [[1, 0, number], [1, 1, number]]
        assert after.born[1, :, number].tolist() == [20, 20]


def test_incoming_weights_are_drawn_as_at_initialisation_from_a_stream_of_seed_update_and_unit():
    net = NETWORKS["mlp"]
    hidden = hidden_layers(net)[0]

    def row(seed: int, step: int, unit: int) -> torch.Tensor:
        own = arenas(net, 1)
        reset_units(net, own, chosen(net, (0, 0, unit), members=1), [seed], [step])
        views = net.layout.views(own.params)
        return torch.cat([views[hidden.weight][0, unit], views["fc1.bias"][0, unit : unit + 1]])

    rows = [row(s, t, u) for s in (1, 2) for t in (5, 6) for u in (0, 1)]
    assert len({tuple(r.tolist()) for r in rows}) == len(rows)
    assert_same_bits("again", row(2, 6, 1), rows[-1])
    bound = 1 / math.sqrt(math.prod(hidden.layer.weight_shape[1:]))
    every = torch.cat(rows)
    assert 0.95 * bound < float(every.abs().max()) <= bound
    assert abs(float(every.mean())) < 4 * bound / math.sqrt(3 * len(every))


def test_a_weight_between_two_reset_units_is_fresh():
    net = NETWORKS["mlp"]
    before = arenas(net, 1)
    both, second = copied(before), copied(before)
    reset_units(net, both, chosen(net, (0, 0, 2), (0, 1, 4), members=1), [0], [9])
    reset_units(net, second, chosen(net, (0, 1, 4), members=1), [0], [9])
    weight = net.layout.views(both.params)["fc2.weight"][0]
    fresh = net.layout.views(second.params)["fc2.weight"][0]
    assert_same_bits("row", weight[4], fresh[4])
    assert weight[4, 2] != 0
    assert (weight[:4, 2] == 0).all()


@pytest.mark.parametrize(
    ("how", "kept"),
    [
        (Reset(outgoing=False), "outgoing"),
        (Reset(incoming_moments=False), "incoming moments"),
        (Reset(outgoing_moments=False), "outgoing moments"),
        (Reset(own_step=False), "births"),
    ],
)
def test_each_option_leaves_one_thing_as_it_was(how, kept):
    net = NETWORKS["cnn"]
    before = arenas(net, 1)
    usual, own = copied(before), copied(before)
    reset_units(net, usual, chosen(net, (0, 1, 2), members=1), [0], [9])
    reset_units(net, own, chosen(net, (0, 1, 2), members=1), [0], [9], how)
    incoming, outgoing = touched(net, 0, 1, 2)
    births = {"incoming moments": [0, 9], "outgoing moments": [9, 0], "births": [0, 0]}.get(kept, [9, 9])
    assert own.born[0, :, 3 + 2].tolist() == births
    left = {
        "outgoing": (outgoing, (0,)),
        "incoming moments": (incoming, (1, 2)),
        "outgoing moments": (outgoing, (1, 2)),
    }
    where, parts = left.get(kept, (incoming & ~incoming, ()))
    for part in range(3):
        expected = torch.where(where, before[part][0], usual[part][0]) if part in parts else usual[part][0]
        assert_same_bits(kept, own[part][0], expected)


PLAIN = {name: replace(net, layers=tuple(replace(layer, norm=False) for layer in net.layers))
         for name, net in NETWORKS.items()}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("with_bias", [False, True])
def test_outputs_of_the_next_layer_lose_the_part_of_the_unit_and_biases_take_over_its_mean(name, with_bias):
    """Without normalisation, which would let the reset reach every unit of the layer."""
    net = PLAIN[name]
    layers, own = hidden_layers(net), arenas(net, 1)
    x = torch.rand(32, math.prod(net.shape))
    layer, unit = len(layers) - 1, 3
    hidden = layers[layer]
    inputs = received(hidden, net.forward(own.params[0], x)[1][layer][None])
    mean = inputs.mean((1, 3))
    columns = to_inputs(hidden, torch.eye(hidden.units)[unit][None].bool())[0]
    outgoing = net.layout.views(own.params)[hidden.next_weight][0][:, columns].clone()
    before = net.logits(own.params[0], x)
    choice = chosen(net, (0, layer, unit), members=1)
    choice = choice._replace(activations=[to_inputs(h, torch.zeros(1, h.units)) for h in layers[:-1]] + [mean])
    reset_units(net, own, choice if with_bias else choice._replace(activations=None), [0], [9])
    part = inputs[0, :, columns, 0] @ outgoing.T
    expected = before - part + with_bias * part.mean(0)
    assert_close("logits", net.logits(own.params[0], x), expected, length=64, factor=8)


def moves(own_step: bool, betas: tuple[float, float] = (0.9, 0.999), together: bool = False) -> dict[int, float]:
    """Step sizes by which weights of a unit move in their k-th update after a reset at update 100,000."""
    net, rate = NETWORKS["mlp"], 1e-3
    born = torch.zeros(1, 2, count_units(net), dtype=torch.int64)
    if own_step:
        born[0, 0, 2] = 100_000
    numbers = dict(zip(Hyperparameters._fields, (rate, *betas, 1e-30, 0.0, 0.0, 0.0)))
    hyper = Hyperparameters(**{name: torch.tensor([value], dtype=torch.float64) for name, value in numbers.items()})
    size = net.layout.size
    params, grads = torch.zeros(1, size), torch.full((1, size), 0.7)
    m, v = (torch.zeros(1, size), torch.zeros(1, size)) if not together else (grads.clone(), grads.square())
    since, found = torch.zeros(1, dtype=torch.int64), {}
    for k in range(1, 1001):
        steps = torch.tensor([k if together else 100_000 + k])
        coefficients = own_coefficients(net, born, since, steps, hyper)
        new, m, v = update(params, grads, m, v, steps, hyper, "adam", False, coefficients)
        found[k] = float((params - new)[0, 2 * math.prod(net.shape)]) / rate
        params = new
    return found


def test_weights_that_count_on_move_too_far_after_a_reset_and_weights_that_count_anew_do_not():
    shared, own = moves(own_step=False), moves(own_step=True)
    assert shared[1] == pytest.approx(3.16, abs=0.005)
    assert max(shared, key=shared.__getitem__) == 12
    assert shared[12] == pytest.approx(6.57, abs=0.005)
    assert shared[100] == pytest.approx(3.24, abs=0.005)
    assert shared[1000] == pytest.approx(1.26, abs=0.005)
    assert moves(False, (0.99, 0.99))[1] == pytest.approx(0.1, abs=0.001)
    assert [own[k] for k in (1, 12, 100, 1000)] == pytest.approx([1.0] * 4, abs=1e-4)


def test_a_count_that_begins_anew_with_old_moments_slows_weights_down():
    """What resetting the count of a whole tensor does to the weights whose moments stay."""
    slow = moves(own_step=False, together=True)
    assert slow[1] == pytest.approx(0.316, abs=0.001)
    assert slow[12] == pytest.approx(0.152, abs=0.001)
    assert slow[1000] == pytest.approx(0.80, abs=0.005)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_weight_counts_from_the_later_birth_of_its_row_and_its_column(name):
    net = NETWORKS[name]
    torch.manual_seed(1)
    born = torch.randint(0, 50, (2, 2, count_units(net)))
    since, steps = torch.tensor([0, 20]), torch.tensor([60, 61])
    hyper = Hyperparameters(*torch.tensor([[0.1, 0.2], [0.9, 0.8], [0.99, 0.999], *[[0.0, 0.0]] * 4]).double())
    rate, root = own_coefficients(net, born, since, steps, hyper)
    for m in range(2):
        births = torch.full((net.layout.size,), int(since[m]))
        for layer, hidden in enumerate(hidden_layers(net)):
            for unit in range(hidden.units):
                for side, where in enumerate(touched(net, m, layer, unit)):
                    births[where] = births[where].clamp(min=int(born[m, side, hidden.first + unit]))
        for slot in net.layout.slots:
            ages = (steps[m] - births[slot.slice]).double()
            first, second = 1 - hyper.beta1[m] ** ages, 1 - hyper.beta2[m] ** ages
            assert_same_bits("rate", rate[m, slot.slice], (hyper.learning_rate[m] / first).float())
            assert_same_bits("root", root[m, slot.slice], second.sqrt().float())


def test_statistics_of_units_are_those_of_loops():
    net = NETWORKS["crelu"]
    params = net.initial_parameters([0])
    features, views = net.forward(params[0], torch.rand(5, math.prod(net.shape)))[1], net.layout.views(params)
    for hidden, h in zip(hidden_layers(net), features):
        n = hidden.units
        for unit in range(n):
            own = torch.stack([h[:, unit], h[:, n + unit]]).double()
            assert_close("mean", unit_mean(hidden, h[None])[0, unit], own.mean(), length=100)
            assert fired(hidden, h[None])[0, unit] == bool((h[:, unit] > 0).any())
            weight = views[hidden.weight][0, unit].double()
            assert_close("incoming", incoming_mean(hidden, views)[0, unit], weight.abs().mean(), length=100)
            mask = to_inputs(hidden, torch.eye(n)[unit][None])[0] > 0
            outgoing = views[hidden.next_weight][0][:, mask].double().abs().mean()
            assert_close("outgoing", from_inputs(hidden, outgoing_mean(hidden, views))[0, unit], outgoing, length=100)
