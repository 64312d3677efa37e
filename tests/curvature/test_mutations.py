"""Mistakes that would be easy to make in the certificate and the Krylov space: each must be found by a check.

A check passes on the code as it is and fails on every mutation of its row, so that the tests built on it have teeth.
"""

from dataclasses import replace

import pytest
import spectra
import torch
from spectra import F64, conjugate
from test_certificate import violations

from fastplast.curvature import certificate, lanczos, srank
from fastplast.curvature.lanczos import KnownSpectrum, block_lanczos

SIZE = 120


def bounds_hold():
    return not any(violations(seed, 600) for seed in (0, 1))


def run_lanczos(values, depth=96):
    """The certificate, and how far the basis was from orthonormal."""
    matrix = conjugate(values, torch.Generator().manual_seed(0))
    worst = []
    original = lanczos._certificates

    def spy(bases, *rest):
        (basis,) = bases
        worst.append(float((basis.T @ basis - torch.eye(basis.shape[1], dtype=basis.dtype)).abs().max()))
        return original(bases, *rest)

    lanczos._certificates = spy
    try:
        known = KnownSpectrum(matrix.trace()[None], torch.linalg.vector_norm(matrix)[None], [None])
        (found,) = block_lanczos(lambda _, block: matrix @ block, len(matrix), known, depth=depth, max_depth=depth)
    finally:
        lanczos._certificates = original
    return found.certificate, max(worst)


def basis_is_orthonormal():
    values = torch.logspace(0, -14, SIZE, dtype=F64) * (torch.arange(SIZE) < 70)
    return run_lanczos(values)[1] < 1e-13


def products_come_in_blocks():
    """The whole space in four products: single vectors would meet a cluster of k equal values in k turns at best."""
    matrix, asked = torch.diag(torch.arange(128, dtype=F64)), []

    def product(members, block):
        asked.append(block.shape[2])
        return matrix @ block

    block_lanczos(product, 128, KnownSpectrum(matrix.trace()[None], matrix.norm()[None], [None]), depth=128)
    return len(asked) == 4


def rest_is_resolved():
    index = torch.arange(SIZE, dtype=F64)
    values = torch.exp(-index / 5) * (1 - 2 * (index % 2))
    found, _ = run_lanczos(values)
    return float(found.nuclear_hi - found.nuclear_lo) < 2.5e-5 * float(values.abs().sum())


def threshold_is_strict():
    return int(srank.stable_rank(torch.ones(100, dtype=F64))) == 100


CHECKS = (bounds_hold, basis_is_orthonormal, products_come_in_blocks, rest_is_resolved, threshold_is_strict)


def no_coupling(coupling, group=64):
    norm = torch.linalg.vector_norm(coupling) * 0
    return norm, norm, norm


def half_the_coupling(coupling, group=64, original=certificate.coupling_norms):
    return tuple(value / 2 for value in original(coupling, group))


def first_order_gap_forgotten(known, values, top):
    return top


def rest_forgotten_in_first_sums(known, values, top, original=certificate._top_sums):
    return original(replace(known, complement_norm=0 * known.complement_norm), values, top)


def negative_mass_of_the_part(known, size):
    return (-known.ritz).clamp(min=0).sum()


def one_pass(basis, last, norm):
    return torch.linalg.qr(last - basis @ (basis.transpose(1, 2) @ last)).Q


def single_precision_products(basis, products, *rest, original=lanczos._certificates):
    return original(basis, products.float().double(), *rest)


def coarse_products(basis, products, *rest, original=lanczos._certificates):
    """Products whose operands had 11 bits, as tensor cores make them."""
    mantissa, exponent = torch.frexp(products)
    return original(basis, torch.ldexp(torch.round(mantissa * 2**11) / 2**11, exponent), *rest)


def single_precision_square(basis, products, known, members, threshold, original=lanczos._certificates):
    norm = known.norm.float().double() * (1 + 2e-7)
    return original(basis, products, KnownSpectrum(known.trace, norm, known.negatives), members, threshold)


def not_strict(values, threshold=0.99):
    ordered = values.abs().sort(descending=True).values
    share = ordered.cumsum(0) / ordered.sum()
    return 1 + (share < threshold - 1e-12).sum()


MUTATIONS = {
    "coupling ignored": (bounds_hold, spectra, "coupling_norms", no_coupling),
    "coupling halved": (bounds_hold, spectra, "coupling_norms", half_the_coupling),
    "coupling of first sums ignored": (bounds_hold, certificate, "_top_sums", first_order_gap_forgotten),
    "rest beyond the first sums ignored": (bounds_hold, certificate, "_top_sums", rest_forgotten_in_first_sums),
    "negative mass of the rest ignored": (bounds_hold, certificate, "_negative_mass", negative_mass_of_the_part),
    "one orthogonalisation, no refill": (basis_is_orthonormal, lanczos, "_next_block", one_pass),
    "single-precision products": (rest_is_resolved, lanczos, "_certificates", single_precision_products),
    "11-bit products": (rest_is_resolved, lanczos, "_certificates", coarse_products),
    "single-precision squares": (rest_is_resolved, lanczos, "_certificates", single_precision_square),
    "threshold not strict": (threshold_is_strict, srank, "stable_rank", not_strict),
}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_check_passes_on_the_code_as_it_is(check):
    assert check()


@pytest.mark.parametrize("name", MUTATIONS)
def test_mutation_is_found(name, monkeypatch):
    check, module, attribute, mutant = MUTATIONS[name]
    monkeypatch.setattr(module, attribute, mutant)
    assert not check()


def test_single_vectors_are_found_out(monkeypatch):
    monkeypatch.setitem(block_lanczos.__kwdefaults__, "block", 1)
    assert not products_come_in_blocks()
