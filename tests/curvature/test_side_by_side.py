"""Members measured side by side, as on a GPU, are measured as each alone is.

Nothing here needs a GPU: the way for one is taken on CPU tensors.
"""

import sys
import types

import pytest
import torch
from assertions import assert_close
from spectra import F64, conjugate
from tails import make_tail
from torch.utils._python_dispatch import TorchDispatchMode

from fastplast.curvature import Tail, exact, lanczos, measure, measure_labels
from fastplast.curvature.batches import Eigenvalues, run_one, run_together
from fastplast.curvature.lanczos import KnownSpectrum, block_lanczos
from fastplast.curvature.routes import METHODS

LINALG_ERROR = torch.linalg.LinAlgError
RANKS = ("srank", "srank_lo", "srank_hi", "dimension", "negative_count", "residual_srank")


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(exact, "_member_by_member", exact._wave_by_wave)


def some_tails(members=5, activation="relu"):
    """Members of different dimensions: some inputs of some are dead."""
    tail = make_tail(activation, members, 150, 24, 12, 5, seed=5)
    inputs = tail.inputs.clone()
    for member in range(members):
        inputs[member, :, : 3 * (member % 3)] = 0.0
    parts = tail.hidden_weight, tail.hidden_bias, tail.output_weight * 3, tail.output_bias
    return Tail(inputs, *parts, tail.labels, activation, 0.1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_members_side_by_side_are_measured_as_alone(method, activation, request):
    tail, hint = some_tails(activation=activation), [9, 3, -1, 2, 8]
    alone_each = measure(tail, method=method, hint=hint)
    request.getfixturevalue("as_on_a_gpu")
    found = measure(tail, method=method, hint=hint)
    assert found.method == alone_each.method
    for name in RANKS:
        wide = 1 if method in ("lanczos", "auto") and name.startswith("srank") else 0  # another start of the space
        assert int((getattr(found, name) - getattr(alone_each, name)).abs().max()) <= wide, name
    for name in ("trace", "frobenius_norm", "overlap", "gradient_norm", "residual_ratio"):
        assert_close(name, getattr(found, name), getattr(alone_each, name), dtype=F64, length=10**4)
    assert bool(found.verified.all())
    for values, dimension in zip(found.eigenvalues, found.dimension.tolist()):
        assert len(values) <= dimension
        assert bool((values.diff() >= 0).all())


@pytest.mark.usefixtures("as_on_a_gpu")
def test_members_of_nearly_the_same_dimension_are_one_batch(monkeypatch):
    batches = []
    solve = torch.linalg.eigvalsh

    def counted(matrices):
        batches.append(tuple(matrices.shape))
        return solve(matrices)

    monkeypatch.setattr(torch.linalg, "eigvalsh", counted)
    found = measure(some_tails(members=6))
    assert sorted(set(found.dimension.tolist())) == [280, 290, 316, 352]
    assert [shape for shape in batches if shape[-1] > 64] == [(2, 384, 384), (4, 320, 320)]


@pytest.mark.usefixtures("as_on_a_gpu")
def test_the_memory_limit_decides_how_many_go_side_by_side(monkeypatch):
    tail, waves = some_tails(), []
    original = exact._measure_together

    def spy(wave):
        waves.append(len(wave))
        return original(wave)

    monkeypatch.setattr(exact, "_measure_together", spy)
    everything = measure(tail)
    smaller = measure(tail, memory_limit=100 * 2**20)
    assert waves[0] == 5
    assert len(waves) > 2
    assert torch.equal(everything.srank, smaller.srank)
    with pytest.raises(ValueError, match=r"memory_limit is too small for a Hessian of dimension \d+: got 1000 bytes"):
        measure(tail, memory_limit=1000)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_members_that_do_not_fit_together_are_measured_half_by_half(monkeypatch):
    expected = measure(some_tails()).srank
    original, asked = exact.run_together, []

    def at_most_two(steps):
        asked.append(len(steps))
        if len(steps) > 2:
            raise torch.OutOfMemoryError("injected")
        return original(steps)

    monkeypatch.setattr(exact, "run_together", at_most_two)
    with pytest.warns(UserWarning, match="GPU memory does not suffice for the curvature of [53] members at once"):
        found = measure(some_tails())
    assert asked == [5, 3, 2, 1, 2]
    assert torch.equal(found.srank, expected)


@pytest.mark.usefixtures("as_on_a_gpu")
def test_bad_members_harm_no_other_and_relabelling_shares_the_rest():
    tail = some_tails()
    weight = tail.hidden_weight.clone()
    weight[1] *= torch.nan
    broken = Tail(tail.inputs, weight, tail.hidden_bias, tail.output_weight, tail.output_bias, tail.labels, "relu", 0.1)
    assert measure(broken).srank.tolist()[1] == -1
    other = torch.randint(0, 5, tail.labels.shape)
    for labels, found in zip((tail.labels, other), measure_labels(tail, [tail.labels, other])):
        assert torch.equal(found.srank, measure(tail.relabel(labels)).srank)


def test_a_member_whose_eigensolver_fails_harms_no_other(monkeypatch):
    solve = torch.linalg.eigvalsh

    def fails(matrices):
        if bool((matrices == 7.0).any()):
            raise LINALG_ERROR("injected")
        return solve(matrices)

    def steps(matrix):
        try:
            return (yield Eigenvalues(matrix)).tolist()
        except LINALG_ERROR:
            return "missing"

    monkeypatch.setattr(torch.linalg, "eigvalsh", fails)
    matrices = [value * torch.eye(3, dtype=F64) for value in (1.0, 7.0, 2.0)]
    assert run_together([steps(matrix) for matrix in matrices]) == [[1.0] * 3, "missing", [2.0] * 3]


def test_padding_changes_no_eigenvalue_beyond_rounding():
    generator = torch.Generator().manual_seed(0)
    matrices = [conjugate(torch.linspace(-1, 2, size, dtype=F64), generator) for size in (70, 100, 128)]

    def steps(matrix):
        return (yield Eigenvalues(matrix))

    for matrix, found in zip(matrices, run_together([steps(matrix) for matrix in matrices])):
        assert_close("eigenvalues", found, run_one(steps(matrix)), dtype=F64, length=len(matrix), scale=2.0)


class Synchronisations(TorchDispatchMode):
    """Counts what makes a host wait for its device: reading a value, and shapes that depend on values."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        masked = name == "index" and any(i is not None and i.dtype == torch.bool for i in args[1])
        self.count += name in ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal") or masked
        return function(*args, **(kwargs or {}))


def krylov(matrices, product, depth, max_depth):
    norm = torch.linalg.vector_norm(matrices, dim=(1, 2))
    known = KnownSpectrum(matrices.diagonal(dim1=1, dim2=2).sum(1), norm, [None] * len(matrices))
    return block_lanczos(product, matrices.shape[1], known, depth=depth, max_depth=max_depth)


def test_the_host_waits_for_the_device_once_per_look_at_the_certificates(monkeypatch):
    generator = torch.Generator().manual_seed(3)
    spectra = [torch.exp(-torch.arange(400, dtype=F64) / scale) for scale in (3, 30, 60)]
    matrices = torch.stack([conjugate(values, generator) for values in spectra])
    looks, lists = [], []
    certificates, tolist = lanczos._certificates, torch.Tensor.tolist

    def spy(*arguments):
        looks.append(arguments[0].shape[2])
        return certificates(*arguments)

    monkeypatch.setattr(lanczos, "_certificates", spy)
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: (lists.append(1), tolist(self))[1])
    with Synchronisations() as counted:
        found = krylov(matrices, lambda members, block: matrices[members] @ block, 64, 352)
    assert len(found) == 3
    assert len(looks) > 2
    assert counted.count == 0
    assert len(lists) == len(looks)


def test_the_block_loop_asks_nothing_of_its_device():
    """Tensors without memory: whatever mixed devices or read a value would raise."""
    basis = torch.empty(3, 400, 64, dtype=F64, device="meta")
    last, norm = torch.empty(3, 400, 32, dtype=F64, device="meta"), torch.empty(3, dtype=F64, device="meta")
    assert lanczos._next_block(basis, last, norm).shape == (3, 400, 32)
    parts = lanczos._coupling_norms(basis)
    assert all(value.device.type == "meta" for member in parts for value in member)


class Poisoned(types.ModuleType):
    """A package that nobody may ask for anything."""

    def __getattr__(self, name):
        raise AssertionError(f"asked for {name}")


def test_no_other_solver_is_taken_whatever_is_installed_so_that_bits_are_the_same_everywhere(monkeypatch):
    for name in ("cupy", "cupyx"):
        monkeypatch.setitem(sys.modules, name, Poisoned(name))
    matrix = conjugate(torch.linspace(-1, 1, 40, dtype=F64), torch.Generator().manual_seed(0))
    solve, solved = torch.linalg.eigvalsh, []

    def noted(matrices):
        solved.append(solve(matrices))
        return solved[-1]

    monkeypatch.setattr(torch.linalg, "eigvalsh", noted)

    def steps():
        return (yield Eigenvalues(matrix))

    found = run_together([steps(), steps()])
    assert all(bool(torch.isin(values, solved[-1]).all()) for values in found)  # what torch found, to the bit
