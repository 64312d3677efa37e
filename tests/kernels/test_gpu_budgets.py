"""GPU kernels, compiled without a GPU, use no more of the machine than their committed budgets."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache

import pytest
from fastplast_kernels.budgets import exceeded
from triton_versions import NEWEST, OLDEST, ROOT, TABLES, environment

# The first test of a version waits for two hundred compilations, on cores that others may use.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
BUDGETS = {version: json.loads(path.read_text()) for version, path in TABLES.items()}


def in_one_process(version: str, *more: str):
    """A case that runs in one process with all others of the version, which wait for the same compilations."""
    return pytest.param(version, *more, marks=pytest.mark.xdist_group(version))


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Callable[[str], dict]:
    """``measured(version)``: what every kernel uses."""

    @cache
    def result(version: str) -> dict:
        variables = environment(version, False, tmp_path_factory.mktemp("cache"))
        command = [sys.executable, "scripts/kernel_budgets.py"]
        done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return result


@pytest.mark.parametrize("version", [in_one_process(version) for version in BUDGETS])
def test_every_kernel_has_a_budget(version, measured):
    assert set(measured(version)) == set(BUDGETS[version]), f"run scripts/kernel_budgets.py --write on Triton {version}"


@pytest.mark.parametrize(
    ("version", "kernel"), [in_one_process(version, kernel) for version in BUDGETS for kernel in BUDGETS[version]]
)
def test_kernel_stays_within_its_budget(version, kernel, measured):
    for target, budget in BUDGETS[version][kernel].items():
        usage = measured(version)[kernel][target]
        assert not exceeded(usage, budget, int(target.removeprefix("sm_"))), f"{kernel} for {target}"


@pytest.mark.parametrize("version", BUDGETS)
def test_budgets_allow_no_spills_and_demand_vector_loads_of_updates(version):
    for kernel, targets in BUDGETS[version].items():
        for budget in targets.values():
            assert budget["spills"] == 0
            assert (budget["tensor_cores"] > 0) == kernel.endswith("_tf32")
            if kernel.startswith(("update/", "mlp_step/update", "conv_step/update")):
                width = 64 if "pooled" in kernel else 128  # two weights a thread: with four, registers would spill
                assert (budget["load"], budget["store"]) == (width, width)
            if kernel.startswith("mlp_step/") and "normalise" not in kernel:  # rows of any length
                assert budget["load"] == 128


def test_a_regression_is_told_with_both_numbers():
    budget = BUDGETS[OLDEST]["wasserstein/rank"]["sm_90"]
    assert not exceeded(budget, budget, 90)
    worse = budget | {"registers": 255, "spills": 8, "load": 32, "shared": 300_000, "instructions": 99_999}
    told = "; ".join(exceeded(worse, budget, 90))
    for text in ("registers: 255, budget", "spills: 8 bytes, budget 0", "widest load: 32 bits, budget 128",
                 "shared: 300000, budget", "but sm_90 has 232448", "instructions: 99999, budget"):  # fmt: skip
        assert text in told


def test_the_oldest_and_a_newer_triton_have_tables():
    assert OLDEST.startswith("3.6.")
    assert OLDEST < NEWEST
