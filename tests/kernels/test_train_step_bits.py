"""What the bits of a trained member do not depend on: the CPU that code is made for, and zeros that are left out."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from assertions import assert_same_bits
from fastplast_kernels.train_step.cpu import train
from mlp_case import Case, make_case

HERE = Path(__file__).parent
AVX2 = "+sse,+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+avx,+avx2,+fma,+f16c,+bmi,+bmi2,+lzcnt,+popcnt,+64bit,+cmov,+cx8"


def hashes(**variables: str) -> str:
    paths = os.pathsep.join((str(HERE), str(HERE.parent)))
    command = [sys.executable, str(HERE / "bits_on_cpus.py")]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths} | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(1800)  # compiles the kernels for two CPUs
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="compiles for CPUs of this family")
def test_bits_are_the_same_with_registers_of_another_width():
    """Sizes of tiles, and the registers of a vector, follow the CPU: eight lanes with AVX2, sixteen with AVX-512."""
    narrow = hashes(NUMBA_CPU_NAME="znver3", NUMBA_CPU_FEATURES=AVX2)
    assert narrow == hashes()
    assert len(set(narrow.split())) == 6


def sparse_case(**fields: object) -> Case:
    """Images of which most pixels are zero, some in all of them, so that their weights' moments stay zero."""
    case = make_case((67, 21, 5), members=4, **fields)
    case.task.shift.zero_()
    case.task.images[torch.rand(case.task.images.shape) < 0.7] = 0
    case.task.images[:, 3:40] = 0
    return case


def assert_same(a: Case, b: Case) -> None:
    for name in ("params", "m", "v", "steps", "diverged"):
        assert_same_bits(name, getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("fields", [{}, {"pull": "mixed"}, {"batch": 70, "examples": 90}, {"floats": True, "batch": 3}])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_zeros_that_are_left_out_change_no_bit(monkeypatch, optimizer: str, fields: dict, decay: float) -> None:
    whole = sparse_case(optimizer=optimizer, **fields)
    whole.hyper.weight_decay[1] = decay
    left_out = whole.fresh()
    found = []
    for case, limit in ((whole, -1.0), (left_out, 1.0)):
        monkeypatch.setattr(train, "SPARSE_UP_TO", limit)
        found.append(case.train(threads=2))
    assert_same(whole, left_out)
    for a, b in zip(*found):
        assert torch.equal(a, b)


def test_zeros_are_left_out_of_sparse_images_alone(monkeypatch) -> None:
    told = []
    monkeypatch.setattr(
        train, "_is_sparse", lambda *arguments, f=train._is_sparse: told.append(f(*arguments)) or told[-1]
    )
    sparse_case().train()
    make_case().train()
    shifted = sparse_case()
    shifted.task.shift[5] = 0.1
    shifted.train()
    assert told == [True, False, False]


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_weight_that_is_no_number_on_a_pixel_without_data_freezes_as_by_the_definition(bad, optimizer) -> None:
    case, healthy = (sparse_case(optimizer=optimizer, steps=4) for _ in range(2))
    case.params[2, case.layers[0].weight + 5] = bad
    expected, before = case.fresh(), case.fresh()
    case.train()
    expected.train_reference()
    healthy.train()
    assert case.diverged.tolist() == expected.diverged.tolist() == [-1, -1, 0, -1]
    assert torch.equal(case.params[2].isfinite(), before.params[2].isfinite())
    for name in ("params", "m", "v", "steps"):
        for row in (0, 1, 3):
            assert_same_bits(name, getattr(case, name)[row], getattr(healthy, name)[row])


def test_denormal_weights_and_moments_of_a_pixel_without_data_are_treated_alike(monkeypatch) -> None:
    whole = sparse_case(steps=3)
    for tensor, value in ((whole.params, 1e-40), (whole.m, -0.0), (whole.v, 1e-41)):
        at = whole.layers[0].weight + 5
        tensor[1, at] = value
    left_out = whole.fresh()
    for case, limit in ((whole, -1.0), (left_out, 1.0)):
        monkeypatch.setattr(train, "SPARSE_UP_TO", limit)
        case.train()
    assert_same(whole, left_out)
