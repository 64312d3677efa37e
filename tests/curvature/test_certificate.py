"""The certificate: lo <= exact <= hi for any matrix and orthonormal basis, and the bounds bite where they should."""

import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spectra import F64, compress, conjugate, families, orthogonal

from fastplast.curvature import stable_rank
from fastplast.curvature.certificate import certify, coupling_norms

SPECTRA = ("gaussian", "decaying", "two_scales", "clustered", "pairs", "low_rank", "positive", "threshold", "zero")
BASES = ("random", "leading", "misses_the_top", "trailing", "krylov", "nearly_invariant", "mixed", "whole")


def random_spectrum(kind, size, generator):
    normal = torch.randn(size, dtype=F64, generator=generator)
    index = torch.arange(size, dtype=F64)
    if kind == "gaussian":
        return normal
    if kind == "decaying":
        return normal.sign() * torch.exp(-index * float(torch.rand((), generator=generator)) * 3)
    if kind == "two_scales":
        digits = float(torch.randint(1, 12, (), generator=generator))
        return torch.where(index < size // 2, normal, normal * 10.0**-digits)
    if kind == "clustered":
        return torch.round(normal) * (1 + 1e-9 * normal)
    if kind == "pairs":
        return torch.repeat_interleave(normal.abs(), 2)[:size] * (1 - 2 * (index % 2))
    if kind == "low_rank":
        return torch.where(index < max(1, size // 3), normal, 0.0)
    if kind == "positive":
        return normal.square()
    if kind == "threshold":  # the first few hold 99 % up to the seventh digit
        few = max(1, size // 3)
        small = 0.01 * (1 + 1e-7 * normal[0]) * few / 0.99 / (size - few)
        return torch.where(index < few, 1.0, small) * normal.sign()
    return 0 * normal


def random_basis(kind, matrix, depth, generator):
    size = len(matrix)
    order = torch.linalg.eigh(matrix)
    vectors = order.eigenvectors[:, order.eigenvalues.abs().argsort(descending=True)]
    noise = torch.randn(size, depth, dtype=F64, generator=generator)
    start = {
        "random": noise,
        "leading": vectors[:, :depth],
        "misses_the_top": vectors.roll(-1, 1)[:, :depth],
        "trailing": vectors.flip(1)[:, :depth],
        "krylov": torch.cat([torch.linalg.matrix_power(matrix, p) @ noise[:, :1] for p in range(depth)], 1),
        "nearly_invariant": vectors[:, :depth] + 1e-3 * noise,
        "mixed": vectors[:, torch.randperm(size, generator=generator)[:depth]],
        "whole": noise,
    }[kind]
    basis = torch.linalg.qr(start).Q  # a deficient start is completed by arbitrary directions
    return torch.linalg.qr(basis).Q


def violations(seed, cases):
    """Cases in which a bound is wrong, out of many of all kinds."""
    generator = torch.Generator().manual_seed(seed)
    wrong = []
    for case in range(cases):
        kind, basis = SPECTRA[case % len(SPECTRA)], BASES[case // len(SPECTRA) % len(BASES)]
        size = 2 + case % 11
        depth = size if basis == "whole" else 1 + int(torch.randint(0, size, (), generator=generator))
        values = random_spectrum(kind, size, generator)
        residual = conjugate(values, generator)
        matrix = residual
        if case % 3 == 1:
            factor = torch.randn(size, 1 + size // 2, dtype=F64, generator=generator)
            matrix = residual + factor @ factor.T * 10.0 ** -float(torch.randint(0, 5, (), generator=generator))
        part = None if case % 3 == 0 else residual
        noise = conjugate(torch.randn(size, dtype=F64, generator=generator) * 10.0 ** -(case % 4), generator)
        known = compress(
            matrix,
            random_basis(basis, matrix, depth, generator),
            part,
            knows_rest=case % 2 == 0,
            noise=noise if case % 5 == 0 else None,
        )
        found = certify(known)
        spectrum = torch.linalg.eigvalsh(matrix)
        exact, nuclear = int(stable_rank(spectrum)), float(spectrum.abs().sum())
        slack = 1e-12 * (1 + nuclear)
        ranks_hold = int(found.lo) <= exact <= int(found.hi) and int(found.lo) <= int(found.estimate) <= int(found.hi)
        norms_hold = float(found.nuclear_lo) <= nuclear + slack and nuclear <= float(found.nuclear_hi) + slack
        if not (ranks_hold and norms_hold):
            wrong.append((kind, basis, size, depth, int(found.lo), exact, int(found.hi)))
    return wrong


@pytest.mark.parametrize("seed", range(8))
def test_bounds_hold_for_every_matrix_and_basis(seed):
    assert violations(seed, 1300) == []


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    values=st.lists(st.floats(-4, 4, width=16), min_size=2, max_size=9),
    scale=st.sampled_from([1e-18, 1e-6, 1.0, 1e12]),
    seed=st.integers(0, 10**6),
    depth=st.integers(1, 9),
)
def test_bounds_hold_for_every_spectrum(values, scale, seed, depth):
    generator = torch.Generator().manual_seed(seed)
    matrix = conjugate(torch.tensor(values, dtype=F64) * scale, generator)
    basis = orthogonal(len(values), generator)[:, :depth]
    found = certify(compress(matrix, basis, matrix))
    assert int(found.lo) <= int(stable_rank(torch.linalg.eigvalsh(matrix))) <= int(found.hi)


@pytest.mark.slow
def test_bounds_hold_for_every_kind_of_spectrum_and_basis():
    """In 10,000 cases, small ones, in which every kind meets every basis."""
    generator, chosen = torch.Generator().manual_seed(0), random.Random(0)
    for case in range(10_000):
        kind, basis, knows = chosen.choice(SPECTRA), chosen.choice(BASES), chosen.random() < 0.5
        size = chosen.randint(2, 8)
        depth = size if basis == "whole" else chosen.randint(1, size)
        matrix = conjugate(random_spectrum(kind, size, generator), generator)
        vectors = random_basis(basis, matrix, depth, generator)
        found = certify(compress(matrix, vectors, matrix if knows else None))
        lo, hi, estimate = map(int, (found.lo, found.hi, found.estimate))
        exact = int(stable_rank(torch.linalg.eigvalsh(matrix)))
        told = (case, kind, basis, size, depth, knows, lo, exact, hi)
        assert lo <= exact <= hi, told
        assert lo <= estimate <= hi, told


@pytest.mark.parametrize("size", [60, 200])
def test_bounds_meet_when_the_basis_is_the_leading_invariant_space(size):
    generator = torch.Generator().manual_seed(0)
    for name, (values, rank) in families(size).items():
        matrix = conjugate(values, generator)
        order = torch.linalg.eigh(matrix)
        vectors = order.eigenvectors[:, order.eigenvalues.abs().argsort(descending=True)]
        depth = size if "threshold" in name or rank > size // 2 else min(size, 2 * rank + 30)
        found = certify(compress(matrix, vectors[:, : max(depth, 1)], matrix))
        assert int(found.lo) <= rank <= int(found.hi), name
        if "just" not in name:
            assert bool(found.closed), f"{name}: {int(found.lo)} {rank} {int(found.hi)}"


def test_the_coupling_costs_second_order_only_where_negatives_are_known():
    """A small coupling e to a rest that is not negative: the interval's width falls with e^2."""
    generator = torch.Generator().manual_seed(3)
    values = torch.cat((torch.linspace(1, 2, 20, dtype=F64), -torch.linspace(1, 2, 20, dtype=F64)))
    matrix = torch.block_diag(torch.diag(values), 1e-4 * torch.eye(40, dtype=F64))
    basis = torch.eye(80, dtype=F64)[:, :40]
    widths = []
    for size in (1e-2, 1e-3):
        coupled = matrix.clone()
        coupled[40:, :40] = size * torch.randn(40, 40, dtype=F64, generator=generator) / 40**0.5
        coupled[:40, 40:] = coupled[40:, :40].T
        known = compress(coupled, basis)
        residual = torch.block_diag(torch.diag(values.clamp(max=0) * 1.1), torch.zeros(40, 40, dtype=F64))
        second = certify(compress(coupled, basis, residual - 1e-9 * torch.eye(80, dtype=F64)))
        first = certify(known)
        assert second.nuclear_hi - second.nuclear_lo < first.nuclear_hi - first.nuclear_lo
        widths.append(float(second.nuclear_hi - second.nuclear_lo))
    assert widths[1] < widths[0] / 20


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (3, 5), (64, 7), (130, 40), (0, 4)])
def test_coupling_norms_bound_the_singular_values(shape):
    coupling = torch.randn(shape, dtype=F64)
    nuclear, norm, largest = coupling_norms(coupling, group=8)
    values = torch.linalg.svdvals(coupling) if coupling.numel() else torch.zeros(1, dtype=F64)
    assert float(nuclear) >= float(values.sum()) * (1 - 1e-14)
    assert float(largest) >= float(values.max()) * (1 - 1e-14)
    assert float(norm) == pytest.approx(float(values.norm()))
    assert float(nuclear) <= float(coupling.norm(dim=1).sum()) * (1 + 1e-6)


def test_bounds_of_a_zero_matrix_are_zero():
    found = certify(compress(torch.zeros(5, 5, dtype=F64), torch.eye(5, dtype=F64)[:, :2]))
    assert int(found.lo) == int(found.hi) == int(found.estimate) == 0
