"""What ``measure`` reports, and that no member depends on its company."""

import math

import pytest
import torch
from assertions import assert_close, assert_same_bits
from tails import loss_and_block, make_tail, padded, paper_tail

from fastplast.curvature import Tail, measure, measure_labels
from fastplast.curvature.tail import ACTIVATIONS

F64 = torch.float64


def replaced(tail, **tensors):
    names = ("inputs", "hidden_weight", "hidden_bias", "output_weight", "output_bias", "labels")
    fields = {name: getattr(tail, name).clone() for name in names} | tensors
    return Tail(**fields, activation=tail.activation, negative_slope=tail.negative_slope)


@pytest.fixture(params=ACTIVATIONS)
def activation(request):
    return request.param


def test_measures_are_those_of_the_autograd_hessian(activation):
    tail = make_tail(activation, members=3, examples=25, hidden=6)
    curvature = measure(tail)
    for m in range(3):
        loss, block = loss_and_block(tail, m)
        hessian, gradient = torch.func.hessian(loss)(block), torch.func.grad(loss)(block)
        values = torch.linalg.eigvalsh(hessian)
        nuclear, product = values.abs().sum(), hessian @ gradient
        expected = {
            "sharpness": values.abs().max(),
            "largest": values.max(),
            "smallest": values.min(),
            "trace": values.sum(),
            "nuclear_norm": nuclear,
            "frobenius_norm": hessian.norm(),
            "negative_mass": -values.clamp(max=0).sum() / nuclear,
            "overlap": gradient @ product / (gradient.norm() * product.norm()),
            "gradient_norm": gradient.norm(),
        }
        for name, value in expected.items():
            assert_close(name, getattr(curvature, name)[m], value, dtype=F64, length=10**4, scale=float(values.max()))
        share = values.abs().sort(descending=True).values.cumsum(0) / nuclear
        assert int(curvature.srank[m]) == int((share <= 0.99).sum()) + 1
        assert int(curvature.negative_count[m]) == int((values < -1e-12 * values.abs().max()).sum())
        assert_close("spectrum", padded(curvature.eigenvalues[m], len(block)), values, dtype=F64, length=10**4)
        assert curvature.eigenvalues[m].shape == (int(curvature.dimension[m]),)
    assert curvature.block_size == 6 * 6 + 3 * 7
    assert curvature.method == ("exact",) * 3
    assert torch.equal(curvature.srank, curvature.srank_lo)
    assert torch.equal(curvature.srank, curvature.srank_hi)
    assert bool(curvature.verified.all())
    assert bool((curvature.seconds > 0).all())


def test_parts_add_up(activation):
    curvature = measure(make_tail(activation, members=4, examples=30, hidden=6))
    assert bool(((curvature.residual_share > 0) & (curvature.residual_share < 1)).all())
    assert bool((curvature.residual_ratio > 0).all())
    if activation != "tanh":
        # R has as many negative eigenvalues as positive ones, G has none: Weyl's bound.
        assert bool((curvature.negative_count <= 6 * 2).all())


@pytest.mark.parametrize("alive", [64, 3])
def test_identities_hold_at_full_size(activation, alive):
    curvature = measure(paper_tail(activation, alive=alive, seed=1))
    assert float(curvature.trace_error.max()) < 1e-12
    assert float(curvature.frobenius_error.max()) < 1e-12
    assert float(curvature.assembly_error.max()) < 1e-12
    assert curvature.block_size == 2410
    assert int(curvature.dimension) <= (2377 if alive == 64 else 32 * 4 + 33 * 9)
    if activation != "tanh":
        assert int(curvature.negative_count) <= 288


@pytest.mark.parametrize("threads", [1, 2])
def test_member_is_independent_of_its_batch_mates(activation, threads):
    tail = make_tail(activation, members=30, examples=13)
    torch.set_num_threads(threads)
    together = measure(tail)
    assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    for m in (0, 17, 29):
        alone = measure(tail.member(m))
        assert_same_bits("eigenvalues", together.eigenvalues[m], alone.eigenvalues[0])
        for name in ("srank", "negative_count", "overlap", "residual_share", "assembly_error"):
            assert_same_bits(name, getattr(together, name)[m : m + 1], getattr(alone, name))


def test_the_number_of_threads_does_not_change_a_bit():
    tail = make_tail("tanh", members=2, examples=300, inputs=25, hidden=24, classes=6)
    torch.set_num_threads(2)
    two = measure(tail)
    torch.set_num_threads(1)
    one = measure(tail)
    for m in range(2):
        assert_same_bits("eigenvalues", two.eigenvalues[m], one.eigenvalues[m])


def test_relabelling_equals_measuring_again(activation):
    tail = make_tail(activation, members=3, examples=20, hidden=6)
    others = [torch.randint(0, 3, (3, 20)) for _ in range(2)]
    curvatures = measure_labels(tail, [tail.labels, *others])
    for labels, curvature in zip([tail.labels, *others], curvatures):
        again = measure(replaced(tail, labels=labels))
        for m in range(3):
            assert_same_bits("eigenvalues", curvature.eigenvalues[m], again.eigenvalues[m])
        assert_same_bits("overlap", curvature.overlap, again.overlap)


@pytest.mark.parametrize("name", ["inputs", "hidden_weight", "hidden_bias", "output_weight", "output_bias"])
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e30])
def test_a_member_that_is_not_finite_is_missing_and_harms_no_other(activation, name, value):
    tail = make_tail(activation, members=3)
    broken = getattr(tail, name).clone()
    broken[1] *= value
    curvature, expected = measure(replaced(tail, **{name: broken})), measure(tail)
    if math.isfinite(value):
        assert bool(curvature.verified.all())
    else:
        assert curvature.finite.tolist() == [True, False, True]
        assert int(curvature.srank[1]) == int(curvature.dimension[1]) == -1
        assert math.isnan(float(curvature.sharpness[1]))
        assert not bool(curvature.zero[1])
        assert len(curvature.eigenvalues[1]) == 0
        assert curvature.verified.tolist() == [True, False, True]
    for m in (0, 2):
        assert_same_bits("eigenvalues", curvature.eigenvalues[m], expected.eigenvalues[m])


def test_a_zero_hessian_has_rank_zero_and_a_flag(activation):
    tail = make_tail(activation, members=2)
    bias, labels = tail.output_bias.clone(), tail.labels.clone()
    bias[1, 0], labels[1] = 1e4, 0  # certain and right beyond the smallest number
    curvature = measure(replaced(tail, output_bias=bias, labels=labels))
    assert curvature.zero.tolist() == [False, True]
    assert curvature.srank.tolist()[1] == curvature.srank_hi.tolist()[1] == 0
    assert curvature.finite.tolist() == [True, True]
    assert float(curvature.sharpness[1]) == float(curvature.negative_mass[1]) == float(curvature.trace_error[1]) == 0.0
    assert math.isnan(float(curvature.overlap[1]))
    assert bool(curvature.verified.all())


def test_single_precision_weights_are_measured_in_double_precision():
    tail = make_tail("relu", members=2, examples=25)
    single = replaced(tail, **{n: getattr(tail, n).float() for n in ("inputs", "hidden_weight", "output_weight")})
    assert single.inputs.dtype == F64
    assert float(measure(single).trace_error.max()) < 1e-13


def test_wide_tails_are_compressed(monkeypatch):
    tail = make_tail("relu", members=2, examples=40, inputs=38, hidden=20, classes=2)
    curvature = measure(tail)
    monkeypatch.setattr("fastplast.curvature.exact.is_compressible", lambda coords: False)
    plain = measure(tail)
    assert bool((curvature.dimension < plain.dimension).all())
    assert torch.equal(curvature.srank, plain.srank)
    assert bool(curvature.verified.all())
    for name in ("sharpness", "trace", "nuclear_norm", "overlap", "residual_ratio", "residual_share"):
        assert_close(name, getattr(curvature, name), getattr(plain, name), dtype=F64, length=10**4)


def test_memory_limit_makes_members_wait_or_names_itself():
    tail = make_tail("tanh", members=5)
    torch.set_num_threads(2)
    just_one = 2**25 + 2**17  # four chunks, and a small matrix
    assert measure(tail, memory_limit=just_one).srank.tolist() == measure(tail).srank.tolist()
    with pytest.raises(
        ValueError, match=r"memory_limit is too small for a Hessian of dimension 3\d: got 1000 bytes, needs"
    ):
        measure(tail, memory_limit=1000)


def test_threshold_moves_the_stable_rank():
    tail = make_tail("tanh", members=2, examples=30)
    half, most = measure(tail, threshold=0.5), measure(tail, threshold=0.999)
    assert bool((half.srank < most.srank).all())
    assert half.threshold == 0.5


def test_an_eigensolver_that_does_not_converge_gives_a_missing_value(monkeypatch):
    def refuse(*arguments):
        raise torch.linalg.LinAlgError("did not converge")

    tail = make_tail("relu", members=2)
    monkeypatch.setattr("torch.linalg.eigvalsh", refuse)
    curvature = measure(tail)
    assert curvature.finite.tolist() == [False, False]
    assert curvature.srank.tolist() == [-1, -1]
