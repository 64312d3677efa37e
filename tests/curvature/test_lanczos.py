"""Block Lanczos on matrices whose stable rank is known, and what would happen without its precautions."""

import pytest
import torch
from assertions import assert_close
from spectra import F64, conjugate, families

from fastplast.curvature import lanczos
from fastplast.curvature.lanczos import KnownSpectrum, block_lanczos

SIZE = 200


def solve(matrices, **options):
    stacked = torch.stack(matrices)
    norms = torch.linalg.vector_norm(stacked, dim=(1, 2))
    traces = stacked.diagonal(dim1=1, dim2=2).sum(1)
    known = KnownSpectrum(traces, norms, options.pop("negatives", [None] * len(matrices)))
    return block_lanczos(lambda members, block: stacked[members] @ block, stacked.shape[1], known, **options)


def family_matrices(size):
    generator = torch.Generator().manual_seed(7)
    made = families(size)
    matrices = [conjugate(values, generator) for values, _ in made.values()]
    return list(made), matrices, [rank for _, rank in made.values()]


def test_synthetic_families_in_one_batch_have_the_rank_known_on_paper():
    names, matrices, ranks = family_matrices(SIZE)
    for name, rank, found in zip(names, ranks, solve(matrices, depth=64)):
        certificate = found.certificate
        assert int(certificate.lo) <= rank <= int(certificate.hi), name
        assert bool(certificate.closed), name
        assert abs(int(certificate.estimate) - rank) <= 1, name


def test_synthetic_families_at_full_depth_are_exact():
    names, matrices, ranks = family_matrices(SIZE)
    for name, rank, found in zip(names, ranks, solve(matrices, depth=SIZE)):
        assert int(found.certificate.lo) <= rank <= int(found.certificate.hi), name
        if "just" not in name:
            assert int(found.certificate.estimate) == rank, name


def test_clusters_wider_than_one_vector_are_found_by_a_block():
    values = torch.zeros(SIZE, dtype=F64)
    values[:23], values[23:46] = 2.0, -1.0
    matrix = conjugate(values, torch.Generator().manual_seed(0))
    (found,) = solve([matrix], depth=64)
    assert int(found.certificate.lo) == int(found.certificate.hi) == 46
    (single,) = solve([matrix], depth=64, max_depth=64, block=1)  # sees each value once before it is refilled at random
    assert int(single.certificate.hi) - int(single.certificate.lo) > 10


def test_the_basis_stays_orthonormal_through_breakdowns(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    matrix = conjugate(torch.cat((torch.logspace(0, -14, 50, dtype=F64), torch.zeros(150, dtype=F64))), generator)
    kept = {}
    original = lanczos._certificates

    def spy(basis, *rest):
        (kept["basis"],) = basis
        return original(basis, *rest)

    monkeypatch.setattr(lanczos, "_certificates", spy)
    solve([matrix], depth=160, max_depth=160)
    basis = kept["basis"]
    assert_close("Q'Q", basis.T @ basis, torch.eye(160, dtype=F64), dtype=F64, length=160)


def test_products_are_asked_for_in_blocks_of_32():
    matrix = conjugate(torch.exp(-torch.arange(SIZE, dtype=F64) / 9), torch.Generator().manual_seed(1))
    asked = []

    def product(members, block):
        asked.append(block.shape[2])
        return matrix @ block

    norm = torch.linalg.vector_norm(matrix)
    block_lanczos(product, SIZE, KnownSpectrum(matrix.trace()[None], norm[None], [None]), depth=128, max_depth=128)
    assert asked == [32, 32, 32, 32]


def test_a_member_alone_and_in_company_has_the_same_bounds():
    _, matrices, _ = family_matrices(96)
    together = solve(matrices, depth=64)
    for index in (1, 6, 9):
        (alone,) = solve([matrices[index]], depth=64)
        for name in ("lo", "hi", "estimate"):
            assert int(getattr(alone.certificate, name)) == int(getattr(together[index].certificate, name))


def test_known_negatives_close_the_certificate_sooner():
    """A rest that cannot be negative has its trace for a nuclear norm."""
    generator = torch.Generator().manual_seed(2)
    values = torch.exp(-torch.arange(300, dtype=F64) / 12)
    matrix = conjugate(values, generator)
    nothing = torch.zeros(1, dtype=F64)
    depth = [len(solve([matrix], depth=64, negatives=[known])[0].ritz) for known in (nothing, None)]
    assert depth[0] <= depth[1]


@pytest.mark.parametrize("size", [1, 2, 33])
def test_matrices_smaller_than_a_block_are_exact(size):
    matrix = conjugate(torch.arange(1.0, size + 1, dtype=F64), torch.Generator().manual_seed(0))
    (found,) = solve([matrix])
    assert int(found.certificate.lo) == int(found.certificate.hi)
    assert len(found.ritz) == size


def test_the_norm_of_the_rest_is_resolved_far_below_single_precision():
    """Signs alternate, so that only the norm of the rest bounds it; its square is 1e-10 of the whole."""
    index = torch.arange(SIZE, dtype=F64)
    matrix = conjugate(torch.exp(-index / 12) * (1 - 2 * (index % 2)), torch.Generator().manual_seed(4))
    nuclear = float(torch.linalg.eigvalsh(matrix).abs().sum())
    scales = [1.0 + step / 10 for step in range(8)]  # single precision would round the norm up in some of these
    for scale, found in zip(scales, solve([matrix * scale for scale in scales], depth=160, max_depth=160)):
        certificate = found.certificate
        assert float(certificate.nuclear_lo) <= nuclear * scale <= float(certificate.nuclear_hi)
        assert float(certificate.nuclear_hi - certificate.nuclear_lo) < 1e-4 * nuclear * scale
