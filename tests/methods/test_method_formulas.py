"""Methods on single parameters against their formulas: by hand, or by the moments of their noise."""

import math

import pytest
import torch
from assertions import assert_close, assert_same_bits
from method_stage import Stage


@pytest.mark.parametrize(("add", "share"), [("gaussian", None), ("fresh", math.sqrt(0.5))])
def test_shrink_and_perturb_comes_to_rest_at_the_spread_of_its_noise(add, share):
    """An autoregression of factor p and noise s has deviation s / sqrt(1 - p^2)."""
    p, s = 0.8, 0.6 * math.sqrt(0.5)
    fields = {"widths": (60, 50)}
    stage = Stage("shrink_perturb", fields=fields, shrink=1 - p, perturb=s, add=add)
    for _ in range(40):
        stage.update()
    weight, start = (stage.views(arena)["fc2.weight"] for arena in (stage.state.params, stage.state.init))
    expected = s / math.sqrt(1 - p**2) * (1.0 if share is None else float(start.std()))
    assert share is None or expected == pytest.approx(share * float(start.std()))
    assert float(weight.std()) == pytest.approx(expected, rel=6 / math.sqrt(2 * weight.numel()))


def test_shrink_and_perturb_all_the_way_to_the_initial_parameters_is_a_full_reset():
    stage = Stage("shrink_perturb", shrink=1.0, perturb=1.0, add="initial", when="task")
    stage.state.params += 1.0
    stage.hooks.begin_task(stage.state, stage.task)
    for slot in stage.network.layout.slots:
        assert torch.equal(stage.state.params[:, slot.slice], stage.state.init[:, slot.slice])


@pytest.mark.parametrize("head", ["yes", "no"])
@pytest.mark.parametrize("scale", ["fan_in", "initial"])
def test_clipping_holds_half_of_uniform_weights_at_half_their_bound(scale, head):
    stage = Stage("clip", fields={"widths": (60, 50), "init": "torch_default"}, bound=0.5, scale=scale, head=head)
    stage.update()
    for slot in stage.network.layout.slots:
        old, new = (arena[0, slot.slice] for arena in (stage.state.init, stage.state.params))
        if slot.name.startswith("fc3") and head == "no":
            assert_same_bits(slot.name, new, old)
            continue
        share = float((new != old).double().mean())
        assert share == pytest.approx(0.5, abs=2.5 / math.sqrt(slot.count)), slot.name
        assert torch.equal(new, old.clamp(new.min(), new.max()))


def upgd_stage(values: list[float], **options) -> tuple[Stage, torch.Tensor]:
    """A member whose three first weights, and their gradients, are these; all others are 0."""
    stage = Stage("upgd", shape=(1, 1, 3), fields={"optimizer": "sgd"}, **options)
    stage.state.params.zero_()
    stage.views()["fc1.weight"][0, 0] = torch.tensor(values)
    grads = stage.zeros()
    stage.views(grads)["fc1.weight"][0, 0] = torch.tensor([-0.5, 0.1, 0.2])
    return stage, grads


@pytest.mark.parametrize(("largest", "gates"), [("corrected", (0.7311, 0.4013, 0.5987)), ("raw", (1.0, 0.0, 1.0))])
def test_upgd_holds_back_useful_weights(largest, gates):
    values = [1.0, 2.0, -1.0]
    stage, grads = upgd_stage(values, noise=0.0, largest=largest)
    weight = stage.views(stage.step(grads)[None])["fc1.weight"][0, 0]
    expected = [w - 0.1 * g * (1 - gate) for w, g, gate in zip(values, (-0.5, 0.1, 0.2), gates)]
    assert weight.tolist() == pytest.approx(expected, abs=1e-5)


def test_upgd_of_utilities_that_are_all_negative_keeps_their_order():
    stage, grads = upgd_stage([-1.0, 2.0, 1.0], noise=0.0)
    stage.state.params[stage.state.params == 0] = -1e9  # whose gradient is 0, and their utility
    moved = stage.views(stage.step(grads)[None])["fc1.weight"][0, 0] - torch.tensor([-1.0, 2.0, 1.0])
    share = moved / (-0.1 * torch.tensor([-0.5, 0.1, 0.2]))
    assert float(share[0]) > float(share[1]) >= float(share[2])  # utilities -0.5, -0.2, -0.2
    assert (share >= 0.5 - 1e-5).all()


def test_upgd_without_protection_puts_noise_on_useless_weights_alone():
    stage, grads = upgd_stage([1.0, 2.0, -1.0], noise=0.3, gate="noise", scale="local")
    new = stage.step(grads)
    plain = stage.state.params[0] - 0.1 * grads[0]
    free = [slot.slice for slot in stage.network.layout.slots if slot.name != "fc1.weight"]
    drawn = torch.cat([(new - plain)[where] for where in free]) / (-0.1 * 0.3 * 0.5)
    assert float(drawn.square().mean()) == pytest.approx(1.0, rel=6 / math.sqrt(2 * len(drawn)))


def test_the_tortoise_follows_slowly_and_the_hare_is_set_back_to_it():
    stage = Stage("hare_tortoise", decay=0.9, every=2)
    start = stage.state.params.clone()
    for slow in (-0.01, -0.019):
        stage.state.params.copy_(start - 0.1)
        stage.update()
        assert_close("slow", stage.state.kept["hare_tortoise.slow"] - start, torch.full_like(start, slow), scale=1.0)
    assert_same_bits("hare", stage.state.params, stage.state.kept["hare_tortoise.slow"])
    stage.state.params -= 0.1
    assert_close("their memory is not shared", stage.state.kept["hare_tortoise.slow"], start - 0.019, scale=1.0)
    stage.hooks.begin_task(stage.state, stage.task)
    assert_same_bits("at a task", stage.state.params, stage.state.kept["hare_tortoise.slow"])


@pytest.mark.parametrize("relative", ["no", "yes"])
def test_noise_has_its_size_and_decays(relative):
    stage = Stage("noise", fields={"widths": (60, 50)}, size=0.1, relative=relative, decay=0.5)
    grads = torch.full_like(stage.zeros(), 2.0)
    norm = 2.0 * math.sqrt(60 * 50) if relative == "yes" else 1.0
    for size in (0.1, 0.05):
        drawn = stage.views(stage.added(grads))["fc2.weight"]
        assert float(drawn.std()) == pytest.approx(size * norm, rel=6 / math.sqrt(2 * 3000))
        stage.state.steps += 1
    stage.hooks.begin_task(stage.state, stage.task)
    again = stage.views(stage.added(grads))["fc2.weight"]
    assert float(again.std()) == pytest.approx(0.1 * norm, rel=6 / math.sqrt(2 * 3000))


@pytest.mark.parametrize("to", ["initial", "fresh"])
def test_a_full_reset_begins_parameters_moments_and_the_count_of_updates_anew(to):
    stage, state = Stage("full_reset", every=2, to=to), None
    state = stage.state
    state.params += 1.0
    state.m += 1.0
    state.steps += 7
    stage.hooks.begin_task(state, stage.task)  # task 1: not yet
    assert state.kept["since"].tolist() == [0]
    object.__setattr__(stage.task, "index", 2)
    stage.hooks.begin_task(state, stage.task)
    assert state.kept["since"].tolist() == [7]
    assert (state.m == 0).all()
    assert torch.equal(state.params, state.init) == (to == "initial")
    for slot in stage.network.layout.slots:
        bound = state.init[:, slot.slice].abs().max()
        assert float(state.params[:, slot.slice].abs().max()) <= 2 * float(bound)
