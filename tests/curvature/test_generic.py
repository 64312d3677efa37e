"""The route through Hessian-vector products, for any module and any block."""

import math

import pytest
import torch
from assertions import assert_close
from tails import loss_and_block, make_tail, padded
from torch import nn

from fastplast.curvature import Tail, block_loss, hessian_block, measure, measure_block
from fastplast.curvature.tail import ACTIVATIONS

F64 = torch.float64


class Cube(torch.autograd.Function):
    """An operation without forward-mode derivative or batching rule, as users write them."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return 3 * x**2 * grad


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_generic_route_equals_the_structured_one(activation):
    tail = make_tail(activation, members=3, examples=20, hidden=6)
    pairs = [loss_and_block(tail, m) for m in range(3)]
    generic = measure_block([loss for loss, _ in pairs], torch.stack([block for _, block in pairs]))
    structured = measure(tail)
    assert torch.equal(generic.srank, structured.srank)
    assert generic.block_size == structured.block_size
    for name in ("sharpness", "trace", "nuclear_norm", "frobenius_norm", "negative_mass", "overlap", "gradient_norm"):
        assert_close(name, getattr(generic, name), getattr(structured, name), dtype=F64, length=10**4)
    for ours, theirs in zip(generic.eigenvalues, structured.eigenvalues):
        assert_close("spectrum", ours, padded(theirs, len(ours)), dtype=F64, length=10**4)
    assert bool(generic.verified.all())


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_block_hessian_is_that_of_autograd(mode, chunk):
    loss, block = loss_and_block(make_tail("tanh"))
    expected = torch.func.hessian(loss)(block)
    assert_close("hessian", hessian_block(loss, block, mode=mode, chunk=chunk), expected, dtype=F64, length=100)


def test_last_layers_of_a_module_are_a_tail():
    module = nn.Sequential(nn.Linear(9, 6), nn.Tanh(), nn.Linear(6, 5), nn.LeakyReLU(0.01), nn.Linear(5, 4))
    inputs, labels = torch.randn(30, 9), torch.randint(0, 4, (30,))
    loss, block = block_loss(module, ["2.weight", "2.bias", "4.weight", "4.bias"], inputs, labels)
    assert block.shape == (5 * 7 + 4 * 6,)
    with torch.no_grad():
        features = torch.tanh(inputs.double() @ module[0].weight.double().T + module[0].bias.double())
    layers = [p.detach().unsqueeze(0) for p in (module[2].weight, module[2].bias, module[4].weight, module[4].bias)]
    structured = measure(Tail(features.unsqueeze(0), *layers, labels.unsqueeze(0), "leaky_relu"))
    generic = measure_block([loss], block.unsqueeze(0))
    assert torch.equal(generic.srank, structured.srank)
    assert_close("sharpness", generic.sharpness, structured.sharpness, dtype=F64, length=1000)
    assert module[2].weight.dtype == torch.float32


def test_convolution_and_layer_norm_are_blocks_like_any_other():
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))
    inputs, labels = torch.randn(6, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    loss, block = block_loss(module, ["0.weight", "2.weight", "2.bias"], inputs, labels)
    forward, reverse = (hessian_block(loss, block, mode=mode) for mode in ("forward", "reverse"))
    assert_close("hessian", forward, reverse, dtype=F64, length=1000)
    assert float(forward.norm()) > 0


def test_operations_without_forward_mode_fall_back_to_two_backward_passes():
    matrix = torch.randn(5, 5, dtype=F64)

    def loss(vector):
        return Cube.apply(matrix @ vector).sum()

    block = torch.randn(5, dtype=F64)
    expected = matrix.T @ torch.diag(6 * (matrix @ block)) @ matrix
    assert_close("hessian", hessian_block(loss, block), expected, dtype=F64, length=50)
    with pytest.raises(RuntimeError):
        hessian_block(loss, block, mode="forward")


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_a_linear_loss_has_a_zero_hessian(mode):
    curvature = measure_block([lambda vector: vector.sum()], torch.ones(1, 4, dtype=F64), mode=mode)
    assert curvature.zero.tolist() == [True]
    assert curvature.srank.tolist() == [0]


@pytest.mark.parametrize("mode", ["auto", "reverse"])
def test_a_loss_that_is_not_finite_is_missing_and_harms_no_other(mode):
    blocks = torch.ones(2, 3, dtype=F64)
    blocks[0] = math.nan
    curvature = measure_block([lambda vector: (vector**4).sum()] * 2, blocks, mode=mode)
    assert curvature.finite.tolist() == [False, True]
    assert curvature.srank.tolist() == [-1, 3]


def test_an_asymmetric_hessian_is_not_verified():
    class Wrong(torch.autograd.Function):
        """A gradient that is not the gradient of anything."""

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.square().sum()

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            return grad * x.cumsum(0)

    curvature = measure_block([Wrong.apply], torch.ones(1, 4, dtype=F64), mode="reverse")
    assert curvature.finite.tolist() == [True]
    assert curvature.verified.tolist() == [False]


def test_misuse_is_refused_with_the_rule():
    loss, block = loss_and_block(make_tail())
    with pytest.raises(ValueError, match=r"mode is unknown: got 'fast'. Choose from auto, forward, reverse"):
        hessian_block(loss, block, mode="fast")
    with pytest.raises(ValueError, match=r"loss must return a scalar: got shape \(39,\)"):
        hessian_block(lambda vector: vector, block)
    with pytest.raises(ValueError, match=r"memory_limit is too small for a block of 39 parameters: got 100 bytes"):
        hessian_block(loss, block, memory_limit=100)
    with pytest.raises(ValueError, match=r"block must hold at least one parameter: got 0"):
        hessian_block(loss, block[:0])
    with pytest.raises(ValueError, match=r"blocks must be \[M, D\] with M = 1 losses: got shape \(39,\)"):
        measure_block([loss], block)
    with pytest.raises(ValueError, match=r"names must be parameters of the module: got 'weigth'. Known: weight, bias"):
        block_loss(nn.Linear(2, 2), ["weigth"], torch.ones(1, 2), torch.zeros(1, dtype=torch.int64))


class Attention(nn.Module):
    """Its projection of queries, keys and values is followed by attention and a last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.project, self.head = nn.Linear(4, 12), nn.Linear(4, 3)

    def attend(self, q, k, v):
        return nn.functional.scaled_dot_product_attention(q, k, v)

    def forward(self, x):
        q, k, v = self.project(x).unflatten(2, (2, 6)).transpose(1, 2).split(2, dim=3)
        return self.head(self.attend(q, k, v).transpose(1, 2).flatten(2).mean(1))


class WrittenOut(Attention):
    def attend(self, q, k, v):
        return (q @ k.transpose(2, 3) / math.sqrt(2)).softmax(3) @ v


class Encoder(nn.Module):
    """Attention as PyTorch's own layers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.head = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.encode(x).mean(1))


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_attention_in_the_block_is_differentiated_twice(mode):
    module, written_out = Attention(), WrittenOut()
    written_out.load_state_dict(module.state_dict())
    inputs, labels = torch.randn(5, 3, 4), torch.tensor([0, 1, 2, 0, 1])
    names = [name for name, _ in module.named_parameters()]
    (loss, block), (same, _) = (block_loss(one, names, inputs, labels) for one in (module, written_out))
    expected = hessian_block(same, block, mode="reverse")
    assert_close("hessian", hessian_block(loss, block, mode=mode), expected, dtype=F64, length=1000)
    curvature = measure_block([loss], block[None], mode=mode)
    assert_close("trace", curvature.trace, expected.trace()[None], dtype=F64, length=1000)
    assert bool(curvature.verified.all())
    usual = torch.backends.cuda.flash_sdp_enabled(), torch.backends.cuda.mem_efficient_sdp_enabled()
    assert usual == (True, True)


def test_attention_of_pytorchs_layers_is_differentiated_twice():
    module, inputs, labels = Encoder().eval(), torch.randn(5, 3, 4), torch.tensor([0, 1, 2, 0, 1])
    loss, block = block_loss(module, [name for name, _ in module.named_parameters()], inputs, labels)
    forward, reverse = (hessian_block(loss, block, mode=mode) for mode in ("forward", "reverse"))
    assert_close("hessian", forward, reverse, dtype=F64, length=10_000)
    assert float(forward.norm()) > 0


@pytest.mark.parametrize("mode", ["auto", "forward", "reverse"])
def test_a_loss_that_draws_random_numbers_is_refused(mode):
    module = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5), nn.Linear(5, 3))
    inputs, labels = torch.randn(8, 6), torch.randint(0, 3, (8,))
    loss, block = block_loss(module, ["2.weight", "2.bias"], inputs, labels)
    for measured in (lambda: hessian_block(loss, block, mode=mode), lambda: measure_block([loss], block[None])):
        with pytest.raises(ValueError, match=r"loss must be the same at every call.*by module.eval\(\)"):
            measured()
    module.eval()
    loss, block = block_loss(module, ["2.weight", "2.bias"], inputs, labels)
    assert hessian_block(loss, block, mode=mode).isfinite().all()


def test_a_name_that_repeats_and_no_examples_are_refused():
    module, inputs, labels = nn.Linear(2, 3), torch.ones(1, 2), torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"names must not repeat a parameter: got weight more than once"):
        block_loss(module, ["weight", "bias", "weight"], inputs, labels)
    with pytest.raises(ValueError, match=r"inputs must be \[N, ...\] with N > 0: got shape \(0, 2\)"):
        block_loss(module, ["weight"], inputs[:0], labels[:0])
