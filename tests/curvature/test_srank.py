"""Stable ranks of spectra and matrices that are known on paper."""

import math

import pytest
import torch
from tails import make_tail

from fastplast.curvature import Tail, matrix_stable_rank, measure, stable_rank
from fastplast.curvature.spectrum import matrix_row

F64 = torch.float64


def orthogonal(size):
    return torch.linalg.qr(torch.randn(size, size, dtype=F64)).Q


def exponential(size, tau):
    return torch.exp(-torch.arange(size, dtype=F64) / tau)


def power(size, exponent):
    return torch.arange(1, size + 1, dtype=F64) ** -exponent


def spikes(size, share):
    """Nine spikes over a flat bulk that holds a share of the sum."""
    return torch.cat(
        (torch.ones(9, dtype=F64), torch.full((size - 9,), 9 * share / (1 - share) / (size - 9), dtype=F64))
    )


def adversarial(size, j, offset):
    """The first j values hold a share of 0.99 (1 + offset), to the last digits."""
    share = 0.99 * (1 + offset)
    return torch.cat(
        (torch.full((j,), share / j, dtype=F64), torch.full((size - j,), (1 - share) / (size - j), dtype=F64))
    )


def signed(values):
    """Plus and minus each value."""
    return torch.cat((values, -values))


def by_definition(values):
    """The definition in exact sums, one value at a time."""
    values = sorted((abs(float(v)) for v in values), reverse=True)
    total = math.fsum(values)
    return next(j for j in range(1, len(values) + 1) if math.fsum(values[:j]) > 0.99 * total)


D = 200
SPECTRA = {
    "rank one": torch.tensor([1.0] + [0.0] * (D - 1), dtype=F64),
    "exponential 3": exponential(D, 3),
    "exponential 50": exponential(D, 50),
    "exponential 300": exponential(D, 300),
    "power 1": power(D, 1),
    "power 1.5": power(D, 1.5),
    "bulk of 0.5 %": spikes(D, 0.005),
    "bulk of 1.5 %": spikes(D, 0.015),
    "classes and cross-classes": torch.cat(
        (power(9, 0.5), 0.05 * power(90, 0.5), 1e-4 * torch.ones(D - 99, dtype=F64))
    ),
    "plus and minus": signed(exponential(D // 2, 20)),
    "plus and minus 23 times": signed(exponential(4, 1)).repeat_interleave(23),
    "plus and minus 32 times": signed(power(3, 1)).repeat_interleave(32),
    "clusters": power(16, 1).repeat_interleave(12) * (1 + 1e-8 * torch.linspace(-1, 1, 192, dtype=F64)),
    "rank 40": torch.cat((power(40, 0.5), torch.zeros(D - 40, dtype=F64))),
    "rank 40 and a floor": torch.cat((power(40, 0.5), torch.full((D - 40,), 1e-9, dtype=F64))),
    "tiny": 1e-20 * exponential(D, 10),
    "huge": 1e15 * exponential(D, 10),
    "subnormal squares": 1e-200 * exponential(D, 10),
    "just above": adversarial(D, 60, 1e-6),
    "just below": adversarial(D, 60, -1e-6),
    "barely above": adversarial(D, 60, 1e-10),
    "barely below": adversarial(D, 60, -1e-10),
}


@pytest.mark.parametrize("name", SPECTRA)
def test_stable_rank_is_its_definition(name):
    spectrum = SPECTRA[name]
    assert int(stable_rank(spectrum)) == by_definition(spectrum)


@pytest.mark.parametrize("name", SPECTRA)
def test_stable_rank_of_a_matrix_is_that_of_its_spectrum(name):
    spectrum = SPECTRA[name]
    basis = orthogonal(len(spectrum))
    matrix = basis * spectrum @ basis.T
    row = matrix_row((matrix + matrix.T) / 2, torch.zeros(len(spectrum), dtype=F64), 0.99)
    assert row["srank"] == row["srank_lo"] == row["srank_hi"] == by_definition(spectrum)
    assert float(row["sharpness"]) == pytest.approx(float(spectrum.abs().max()), rel=1e-12)


def test_thresholds_fall_on_either_side():
    assert int(stable_rank(SPECTRA["barely above"])) == 60
    assert int(stable_rank(SPECTRA["barely below"])) == 61
    assert int(stable_rank(SPECTRA["bulk of 0.5 %"])) == 9
    assert int(stable_rank(SPECTRA["bulk of 1.5 %"])) > 9


@pytest.mark.parametrize("scale", [1.0, 0.1, 1e-20, 3e15])
@pytest.mark.parametrize("size", [1, 7, 100, 200, 2410])
def test_a_share_equal_to_the_threshold_does_not_exceed_it(size, scale):
    assert int(stable_rank(torch.full((size,), scale, dtype=F64))) == (99 * size) // 100 + 1


def test_zeros_have_rank_zero_and_what_is_not_finite_is_missing():
    spectra = torch.tensor([[0.0, 0.0], [1.0, 0.0], [float("nan"), 1.0], [float("inf"), 1.0]])
    assert stable_rank(spectra).tolist() == [0, 1, -1, -1]
    assert int(stable_rank(torch.empty(0))) == 0
    matrices = torch.stack([torch.full((5, 3), v) for v in (0.0, 1.0, float("nan"), float("inf"))])
    assert matrix_stable_rank(matrices).tolist() == [0, 1, -1, -1]


def test_order_and_signs_do_not_matter():
    values = signed(exponential(50, 7))[torch.randperm(100)]
    assert int(stable_rank(values)) == by_definition(values)


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.999])
def test_threshold_is_a_parameter(threshold):
    values = exponential(300, 11)
    share = values.cumsum(0) / values.sum()
    assert int(stable_rank(values, threshold)) == int((share <= threshold).sum()) + 1


@pytest.mark.parametrize("threshold", [0.0, 1.0, 99.0])
def test_threshold_outside_zero_and_one_is_refused(threshold):
    with pytest.raises(ValueError, match=r"threshold must lie between 0 and 1: got .* The paper's value is 0.99"):
        stable_rank(torch.ones(3), threshold)


@pytest.mark.parametrize("shape", [(300, 40), (40, 300), (40, 40), (60, 40), (1, 5), (5, 1)])
@pytest.mark.parametrize("floor", [0.0, 3e-4, 1e-10])
def test_rectangular_matrices_have_the_stable_rank_of_their_singular_values(shape, floor):
    rank = min(shape)
    spectrum = exponential(rank, 4).clamp(min=floor)
    matrix = orthogonal(shape[0])[:, :rank] * spectrum @ orthogonal(shape[1])[:rank]
    assert matrix_stable_rank(torch.stack((matrix, 1e-3 * matrix))).tolist() == [by_definition(spectrum)] * 2


def test_matrix_stable_rank_resolves_a_tail_that_a_gram_matrix_loses():
    spectrum = torch.full((100,), 1e-10, dtype=F64)
    spectrum[0] = 1.0
    matrix = orthogonal(300)[:, :100] * spectrum @ orthogonal(100)
    gram = torch.linalg.eigvalsh(matrix.T @ matrix).clamp(min=0).sqrt()
    threshold = 1 - 40.5e-10  # the first and 59 of the others, or 60
    exact = int((spectrum.cumsum(0) / spectrum.sum() <= threshold).sum()) + 1
    assert int(matrix_stable_rank(matrix, threshold)) == exact
    assert int(stable_rank(gram, threshold)) != exact


def test_matrices_have_the_same_rank_alone_and_in_a_batch():
    matrices = torch.randn(2, 3, 50, 8) * exponential(8, 1).float()
    batch = matrix_stable_rank(matrices)
    assert batch.shape == (2, 3)
    assert [int(matrix_stable_rank(matrix)) for matrix in matrices.flatten(0, 1)] == batch.flatten().tolist()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_rank_is_unchanged_by_the_scale_of_the_loss(activation):
    """Confident networks: curvature is proportional to the chance of a mistake, down to where squares vanish."""
    tail = make_tail(activation, examples=30, hidden=6, weight_scale=0.3)
    labels = torch.zeros_like(tail.labels)
    ranks, spectra = [], []
    for margin in (100.0, 500.0):
        bias = tail.output_bias.clone()
        bias[:, 0] += margin
        layers = tail.inputs, tail.hidden_weight, tail.hidden_bias, tail.output_weight, bias
        curvature = measure(Tail(*layers, labels, activation))
        assert bool(curvature.verified.all())
        ranks.append(int(curvature.srank))
        spectra.append(curvature.eigenvalues[0] / curvature.sharpness[0])
    assert ranks[0] == ranks[1] > 1
    assert float((spectra[0] - spectra[1]).abs().max()) < 1e-12


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (2, 0, 5), (5,)])
def test_a_matrix_of_no_examples_has_no_stable_rank(shape):
    with pytest.raises(ValueError, match=r"matrices must be \[..., R, F\] with R, F > 0: got shape"):
        matrix_stable_rank(torch.zeros(shape))
