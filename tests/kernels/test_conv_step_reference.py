"""The definition of the convolutional training step against autograd and ``torch.optim``, one network per member."""

import pytest
import torch
from assertions import assert_close
from conv_case import ConvCase, make_conv_case
from fastplast_kernels.train_step import ConvLayer, reference
from fastplast_kernels.train_step.reference import bias_of, weight_of
from torch import Tensor, nn
from torch.nn import functional

MODULES = {"relu": nn.ReLU, "leaky_relu": lambda: nn.LeakyReLU(0.01), "tanh": nn.Tanh, "identity": nn.Identity}
SHAPES = [
    ((1, 8, 6), ((2, 3, 2, 1),), (3,)),
    ((3, 7, 9), ((5, 3, 2, 1), (4, 5, 1, 2)), (6, 4)),
    ((2, 9, 9), ((3, 5, 2, 0), (1, 3, 1, 1), (2, 3, 3, 2)), (5,)),
]
POOLED = ((3, 12, 13), ((5, 5, 1, 0), (4, 3, 1, 0)), (6, 4), 2)


def ordinary(case: ConvCase, member: int, activation: str) -> nn.Sequential:
    """A member as anyone would write it, in float64."""
    shape = case.task.shape
    stages: list[nn.Module] = [nn.Unflatten(1, shape)]
    for i, layer in enumerate(case.layers):
        if isinstance(layer, ConvLayer):
            stage = nn.Conv2d(layer.channels, layer.outputs, layer.kernel, layer.stride, layer.padding).double()
        else:
            stage = nn.Linear(layer.inputs, layer.outputs).double()
            if isinstance(case.layers[i - 1], ConvLayer):
                stages.append(nn.Flatten())
        stage.weight.data.copy_(weight_of(case.params, layer)[member].view(stage.weight.shape))
        stage.bias.data.copy_(bias_of(case.params, layer)[member])
        stages += [stage, MODULES[activation]()]
        if isinstance(layer, ConvLayer) and layer.pool > 1:
            stages.append(nn.MaxPool2d(layer.pool))
    return nn.Sequential(*stages[:-1])


def row_of(module: nn.Sequential, case: ConvCase, gradient: bool = False) -> Tensor:
    """The parameters of an ordinary network, or their gradients, as a row of the arena."""
    row = torch.zeros(1, case.params.shape[1], dtype=torch.float64)
    stages = [stage for stage in module if isinstance(stage, (nn.Conv2d, nn.Linear))]
    for layer, stage in zip(case.layers, stages):
        weight, bias = (x.grad if gradient else x.data for x in (stage.weight, stage.bias))
        weight_of(row, layer).copy_(weight.view(layer.outputs, layer.inputs))
        bias_of(row, layer).copy_(bias)
    return row[0]


@pytest.mark.parametrize("activation", MODULES)
@pytest.mark.parametrize(("shape", "convolutions", "sizes", "pool"), [*((*shape, 1) for shape in SHAPES), POOLED])
def test_closed_form_gradients_are_those_of_autograd(shape, convolutions, sizes, pool, activation: str) -> None:
    case = make_conv_case(shape, convolutions, sizes, activation, pool=pool, batch=5)
    positions = case.order[:, 0]
    x, labels = case.task.inputs(positions).double(), case.task.labels.gather(1, positions)
    grads, loss, error = reference.gradients(case.params.double(), case.layers, x, labels)
    for i in range(len(case.params)):
        module = ordinary(case, i, activation)
        logits = module(x[i])
        expected = functional.cross_entropy(logits, labels[i])
        expected.backward()
        assert_close("loss", loss[i], expected, dtype=torch.float64, length=99)
        assert_close("gradient", grads[i], row_of(module, case, gradient=True), dtype=torch.float64, length=99)
        assert float(error[i]) == float((logits.argmax(1) != labels[i]).double().mean())


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_steps_are_those_of_torch_optim(optimizer: str) -> None:
    case = make_conv_case(activation="tanh", optimizer=optimizer, decoupled=optimizer == "adamw", steps=8, batch=6)
    case = case.fresh(hyper=case.hyper._replace(weight_decay=torch.tensor([0.0, 0.01, 0.1], dtype=torch.float64)))
    start, h = case.params.double(), case.hyper
    modules = [ordinary(case, i, "tanh") for i in range(3)]
    for i, module in enumerate(modules):
        rate, decay = float(h.learning_rate[i]), float(h.weight_decay[i])
        betas, eps = (float(h.beta1[i]), float(h.beta2[i])), float(h.epsilon[i])
        own = {
            "adam": lambda p: torch.optim.Adam(p, rate, betas, eps, decay),  # noqa: B023
            "adamw": lambda p: torch.optim.AdamW(p, rate, betas, eps, decay),  # noqa: B023
            "sgd": lambda p: torch.optim.SGD(p, rate, float(h.momentum[i]), weight_decay=decay),  # noqa: B023
        }[optimizer](module.parameters())
        for step in range(case.order.shape[1]):
            positions = case.order[:, step]
            x, labels = case.task.inputs(positions).double(), case.task.labels.gather(1, positions)
            own.zero_grad()
            functional.cross_entropy(module(x[i]), labels[i]).backward()
            own.step()
    case.train_reference()
    assert case.steps.tolist() == [8, 8, 8]
    for i, module in enumerate(modules):
        moved = row_of(module, case) - start[i]
        assert_close(f"member {i}", case.params[i].double() - start[i], moved, length=10, factor=400)


def test_a_batch_of_infinite_loss_freezes_the_member_before_it() -> None:
    case = make_conv_case(steps=4)
    bias_of(case.params, case.layers[0])[1, 2] = float("inf")
    before = case.fresh()
    case.train_reference()
    assert case.diverged.tolist() == [-1, 0, -1]
    assert case.steps.tolist() == [4, 0, 4]
    for name in ("params", "m", "v"):
        assert torch.equal(getattr(case, name)[1], getattr(before, name)[1])
        assert not torch.equal(getattr(case, name)[0], getattr(before, name)[0])
