"""The cheaper routes: certified where they answer, exact where they cannot."""

import pytest
import torch
from assertions import assert_close
from tails import make_tail, paper_tail

from fastplast.curvature import Tail, measure, measure_labels
from fastplast.curvature.routes import METHODS
from fastplast.curvature.tail import ACTIVATIONS

F64 = torch.float64
CERTIFIED = ("truncated", "lanczos", "auto")


@pytest.fixture(params=ACTIVATIONS)
def activation(request):
    return request.param


def confident(activation, members=2, gain=40.0, inputs=24, hidden=12, classes=5, examples=200):
    """Tails that are certain of their own labels, then given others: the residual part outweighs the rest."""
    tail = make_tail(activation, members, examples, inputs, hidden, classes, seed=5)
    parts = tail.inputs, tail.hidden_weight, tail.hidden_bias, tail.output_weight * gain, tail.output_bias
    return Tail(*parts, tail.labels, activation, tail.negative_slope)


def assert_sound(found, exact):
    assert bool(((found.srank_lo <= exact.srank) & (exact.srank <= found.srank_hi)).all())
    assert bool(((found.srank_lo <= found.srank) & (found.srank <= found.srank_hi)).all())
    width = found.srank_hi - found.srank_lo
    assert bool((width <= torch.clamp(found.srank_hi // 100, min=1)).all())
    assert bool(found.verified.all())


@pytest.mark.parametrize("method", CERTIFIED)
@pytest.mark.parametrize("gain", [0.5, 1.0, 40.0])
def test_every_route_brackets_the_exact_rank(activation, method, gain):
    tail = confident(activation, gain=gain)
    found, exact = measure(tail, method=method), measure(tail)
    assert_sound(found, exact)
    for m, name in enumerate(found.method):
        assert name in (method, "exact", "truncated", "lanczos", "residual")
        assert int(found.depth[m]) == len(found.eigenvalues[m]) <= int(found.dimension[m])
    assert_close("trace", found.trace, exact.trace, dtype=F64, length=10**4)
    assert_close("overlap", found.overlap, exact.overlap, dtype=F64, length=10**4)
    assert_close("gradient norm", found.gradient_norm, exact.gradient_norm, dtype=F64, length=10**3)
    assert float(((found.nuclear_norm - exact.nuclear_norm) / exact.nuclear_norm).abs().max()) < 1e-3
    assert float(((found.sharpness - exact.sharpness) / exact.sharpness).abs().max()) < 1e-2


@pytest.mark.parametrize("kind", ["relu", "tanh"])
def test_the_papers_tail_is_bracketed_at_full_size(kind):
    tail = paper_tail(kind, alive=40, seed=2)
    assert_sound(measure(tail, method="auto"), measure(tail))


def test_a_confident_network_with_new_labels_is_measured_by_its_residual_part():
    tail = paper_tail("relu", seed=3)
    sure = Tail(
        tail.inputs, tail.hidden_weight, tail.hidden_bias, tail.output_weight * 1e6, tail.output_bias, tail.labels
    )
    found, exact = measure(sure, method="auto"), measure(sure)
    assert found.method == ("residual",)
    assert_sound(found, exact)
    assert_close("trace", found.trace, exact.trace, dtype=F64, length=10**4, scale=float(exact.nuclear_norm))
    assert float((found.frobenius_norm - exact.frobenius_norm).abs() / exact.frobenius_norm) < 1e-2


def test_a_hint_decides_what_is_tried_and_never_what_is_certified(activation):
    tail = confident(activation, members=1)
    exact = measure(tail)
    for hint in ([-1], [1], [10**6]):
        assert_sound(measure(tail, method="lanczos", hint=hint), exact)
        assert_sound(measure(tail, method="auto", hint=hint), exact)


@pytest.mark.parametrize("method", METHODS)
def test_member_is_independent_of_its_batch_mates_on_every_route(method):
    tail = confident("leaky_relu", members=5, gain=3.0)
    together = measure(tail, method=method, hint=[9, 3, 7, 2, 8])
    for m, hint in ((0, 9), (3, 2)):
        alone = measure(tail.member(m), method=method, hint=[hint])
        for name in ("srank", "srank_lo", "srank_hi", "depth"):
            assert int(getattr(alone, name)) == int(getattr(together, name)[m])


@pytest.mark.parametrize("method", METHODS)
def test_relabelling_on_every_route_equals_measuring_again(method):
    tail = confident("relu", gain=2.0)
    other = torch.randint(0, 5, tail.labels.shape)
    for labels, found in zip((tail.labels, other), measure_labels(tail, [tail.labels, other], method=method)):
        again = measure(tail.relabel(labels), method=method)
        assert torch.equal(found.srank, again.srank)
        assert torch.equal(found.srank_lo, again.srank_lo)


@pytest.mark.parametrize("method", CERTIFIED)
def test_bad_members_and_zeros_are_flagged_on_every_route(activation, method):
    tail = make_tail(activation, members=3)
    weight, bias, labels = tail.hidden_weight.clone(), tail.output_bias.clone(), tail.labels.clone()
    weight[1] *= torch.nan
    bias[2, 0], labels[2] = 1e4, 0
    broken = Tail(tail.inputs, weight, tail.hidden_bias, tail.output_weight, bias, labels, activation, 0.1)
    found, exact = measure(broken, method=method), measure(tail)
    assert found.finite.tolist() == [True, False, True]
    assert found.zero.tolist() == [False, False, True]
    assert int(found.srank_lo[0]) <= int(exact.srank[0]) <= int(found.srank_hi[0])
    assert found.srank.tolist()[1:] == [-1, 0]


def test_wide_tails_take_every_route():
    tail = make_tail("relu", members=2, examples=40, inputs=38, hidden=20, classes=2)
    exact = measure(tail)
    for method in CERTIFIED:
        assert_sound(measure(tail, method=method), exact)


def test_wrong_arguments_name_the_choices():
    tail = make_tail("relu", members=2)
    with pytest.raises(ValueError, match=r"method is unknown: got 'fast'. Choose from exact, truncated, lanczos, auto"):
        measure(tail, method="fast")
    with pytest.raises(ValueError, match=r"hint must have one value for each of 2 members: got 1. Use -1"):
        measure(tail, method="auto", hint=[3])
