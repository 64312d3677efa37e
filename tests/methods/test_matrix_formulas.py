"""Methods on weight matrices and on outputs against their formulas: by hand, or by autograd."""

import math

import pytest
import torch
from assertions import assert_close, assert_same_bits
from method_stage import Stage
from torch.nn import functional

from fastplast.config import Member
from fastplast.methods.dash import factors
from fastplast.methods.fire import polar
from fastplast.networks import Layout


def spectral_penalty(views: dict[str, torch.Tensor], power: int) -> torch.Tensor:
    norms = [torch.linalg.matrix_norm(w.flatten(1), 2) for name, w in views.items() if name.endswith("weight")]
    biases = [b.square().sum() ** power for name, b in views.items() if name.endswith("bias")]
    return sum((norm**power - 1) ** 2 for norm in norms) + sum(biases)


@pytest.mark.parametrize("power", [1, 2, 3])
def test_spectral_gradient_is_that_of_the_penalty(power):
    fields = {"network": "cnn", "channels": (3,), "widths": (6,), "init": "torch_default"}
    stage = Stage("spectral", strength=0.3, shape=(2, 5, 5), fields=fields, exponent=power)
    for _ in range(300):  # the power iteration goes on from update to update
        found = stage.added()
    row = stage.state.params[0].double().requires_grad_()
    expected = torch.autograd.grad(0.3 * spectral_penalty(stage.network.layout.views(row), power), row)[0]
    assert_close("gradient", found[0], expected, factor=4096)


def test_spectral_gradient_by_hand():
    """W = diag(2, 1): R = (4 - 1)^2, and dR/dW = 2 (4 - 1) 2 2 at the place of the 2."""
    stage = Stage("spectral", strength=1.0, shape=(1, 1, 2), fields={"widths": (2, 2)}, biases="no")
    stage.views()["fc1.weight"][0] = torch.diag(torch.tensor([2.0, 1.0]))
    stage.state.kept["spectral.fc1.weight"].copy_(torch.tensor([[1.0, 0.0]]))
    assert stage.views(stage.added())["fc1.weight"][0].tolist() == [[24.0, 0.0], [0.0, 0.0]]


def test_parseval_gradient_is_that_of_the_penalty_and_leaves_the_head():
    fields = {"network": "cnn", "channels": (6,), "widths": (9, 5)}
    stage = Stage("parseval", strength=0.3, shape=(1, 4, 4), fields=fields, target=2.0)
    row = stage.state.params[0].double().requires_grad_()
    penalty = torch.zeros((), dtype=torch.float64)
    for name, w in stage.network.layout.views(row).items():
        if name.endswith("weight") and not name.startswith("fc3"):
            w = w.flatten(1) if w.shape[0] <= w[0].numel() else w.flatten(1).T
            penalty = penalty + 0.3 * (w @ w.T - 2.0 * torch.eye(len(w))).square().sum()
    assert_close("gradient", stage.added()[0], torch.autograd.grad(penalty, row)[0], length=64)


@pytest.mark.parametrize(("size", "slope"), [(1.0, 0.0), (2.0, 24.0)])
def test_parseval_gradient_by_hand(size, slope):
    stage = Stage("parseval", strength=1.0, shape=(1, 1, 2), fields={"widths": (2, 2)})
    stage.views()["fc1.weight"][0] = size * torch.eye(2)
    assert stage.views(stage.added())["fc1.weight"][0].tolist() == [[slope, 0.0], [0.0, slope]]


@pytest.mark.parametrize("is_exact", [True, False])
def test_the_polar_factor_of_an_orthogonal_matrix_is_itself_and_small_singular_values_come_up(is_exact):
    torch.manual_seed(0)
    for shape in ((5, 5), (3, 7), (7, 3)):
        q = torch.linalg.qr(torch.randn(max(shape), min(shape)))[0]
        q = q if shape[0] >= shape[1] else q.T
        assert_close("orthogonal", polar(3.0 * q, is_exact), q, length=64, factor=64)
    assert float((polar(torch.diag(torch.tensor([1.0, 0.1])), is_exact) - torch.eye(2)).abs().max()) < 1e-3
    small = polar(torch.diag(torch.tensor([1.0, 0.01])), is_exact)[1, 1]
    assert float(small) == pytest.approx(1.0 if is_exact else 0.53, abs=0.01)


def test_fire_makes_every_matrix_and_every_place_of_a_kernel_orthogonal_and_scaled():
    stage = Stage("fire", shape=(2, 6, 6), fields={"network": "cnn", "channels": (4,), "widths": (6, 8)})
    stage.hooks.begin_task(stage.state, stage.task)
    for slot in stage.network.layout.slots:
        new, old = (arena[0, slot.slice].view(slot.shape) for arena in (stage.state.params, stage.state.init))
        if not slot.is_weight:
            assert_same_bits(slot.name, new, old)
            continue
        places = new.reshape(*slot.shape[:2], -1)
        outputs, inputs, count = places.shape
        for place in places.unbind(2):
            gram = place @ place.T if outputs <= inputs else place.T @ place
            assert_close(slot.name, gram, outputs / inputs / count**2 * torch.eye(len(gram)), length=64)


def test_dash_shrinks_a_row_by_the_cosine_with_its_descent():
    layout = Layout.pack({"a.weight": (3, 2), "a.bias": (3,), "b.weight": (1, 2, 1, 2)}, {"a.weight", "b.weight"})
    row, down = torch.zeros(layout.size), torch.zeros(layout.size)
    layout.views(row)["a.weight"].copy_(torch.tensor([[3.0, 4.0], [3.0, 4.0], [3.0, 4.0]]))
    layout.views(down)["a.weight"].copy_(torch.tensor([[1.0, 0.0], [-1.0, -1.0], [6.0, 8.0]]))
    layout.views(row)["a.bias"].copy_(torch.tensor([1.0, 0.0, 0.0]))
    layout.views(down)["a.bias"].copy_(torch.tensor([1.0, 1.0, 0.0]))
    layout.views(row)["b.weight"].copy_(torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]]))
    layout.views(down)["b.weight"].copy_(torch.tensor([[[[1.0, 0.0]], [[1.0, 0.0]]]]))
    views = layout.views(factors(layout, row, down, 0.3))
    assert_close("rows", views["a.weight"], torch.tensor([[0.6, 0.6], [0.3, 0.3], [1.0, 1.0]]))
    assert_close("bias", views["a.bias"], torch.full((3,), math.sqrt(0.5)))
    assert_close("kernels", views["b.weight"], torch.tensor([[[[1.0, 1.0]], [[0.3, 0.3]]]]))


def test_dash_averages_the_descent_of_the_new_tasks_minibatches(make_trial):
    own = Member(0, 1e-2, "dash", 0.0, options={"dash_average": 0.4, "dash_least": 0.1})
    trial = make_trial((own,), examples=40, batch_size=16)
    task, network, row = trial.task(1), trial.group.network, trial.state.params[0].clone()
    mean = torch.zeros_like(row)
    for positions in torch.arange(40).split(16):
        leaf = row.clone().requires_grad_()
        x = task.inputs(positions[None])[0]
        loss = functional.cross_entropy(network.logits(leaf, x), task.labels[0, positions])
        mean = 0.6 * mean - 0.4 * torch.autograd.grad(loss, leaf)[0]
    trial.engine.hooks.begin_task(trial.state, task)
    expected = row * factors(network.layout, row, mean, 0.1)
    assert_close("parameters", trial.state.params[0], expected, length=1000)


def test_nap_keeps_norms_and_with_normalisation_the_outputs():
    fields = {"network": "cnn", "channels": (4,), "widths": (6, 8), "layer_norm": True}
    stage = Stage("nap", shape=(1, 6, 6), fields=fields, every=2)
    for slot in stage.network.layout.slots:
        if slot.is_weight and not slot.name.startswith("fc3"):
            stage.state.params[:, slot.slice] *= 1.7
    head = stage.views()["fc3.weight"].clone()
    x, before = torch.rand(5, 36), stage.state.params.clone()
    stage.update()
    assert_same_bits("not yet", stage.state.params, before)
    stage.update()
    for slot in stage.network.layout.slots:
        norms = [arena[0, slot.slice].double().norm() for arena in (stage.state.params, stage.state.init)]
        assert_close(slot.name, norms[0], norms[1], length=64, scale=1.0)
    assert_same_bits("head", stage.views()["fc3.weight"], head)
    outputs = [stage.network.logits(row, x) for row in (stage.state.params[0], before[0])]
    assert_close("outputs", *outputs, length=64, factor=64)  # normalisation adds 1e-5 to the variance


def test_with_layer_norm_the_scale_of_weights_changes_no_output_and_divides_gradients():
    """Why L2 beside layer normalisation raises the effective step size instead of shrinking the function."""
    stage = Stage("nap", shape=(1, 6, 6), fields={"widths": (40, 30), "layer_norm": True})
    x, y, scale = 10 * torch.rand(16, 36), torch.arange(16) % 2, 3.0
    found = []
    for factor in (1.0, scale):
        row = stage.state.init[0].clone()
        stage.network.layout.views(row)["fc1.weight"].mul_(factor)
        row.requires_grad_()
        logits = stage.network.logits(row, x)
        slope = torch.autograd.grad(functional.cross_entropy(logits, y), row)[0]
        found.append((logits, stage.network.layout.views(slope)["fc1.weight"]))
    assert_close("logits", found[1][0], found[0][0], length=64, factor=64)
    assert_close("gradient", scale * found[1][1], found[0][1], length=64, factor=256)


def test_c_chain_holds_outputs_near_those_of_the_parameters_two_updates_ago():
    stage = Stage("c_chain", strength=0.7, lag=2)
    torch.manual_seed(0)
    rows, x = [stage.state.params.clone()], stage.task.inputs(torch.zeros(1, 16, dtype=torch.int64))[0]
    for number in range(5):
        found = stage.added()[0]
        now, before = rows[-1][0].clone().requires_grad_(), rows[max(number - 2, 0)][0]
        churn = functional.cross_entropy(stage.network.logits(now, x), stage.network.logits(before, x).softmax(1))
        expected = 0.7 * torch.autograd.grad(churn, now)[0]
        assert_close(f"update {number}", found, expected, length=64, scale=1e-2)
        assert number == 0 or (found != 0).any()
        stage.state.params += 0.1 * torch.randn_like(stage.state.params)
        stage.state.steps += 1
        rows.append(stage.state.params.clone())
