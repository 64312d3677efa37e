"""GPU kernels, compiled without a GPU, use no more of the machine than their committed budgets."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest
from fastplast_kernels.budgets import exceeded
from triton_versions import NEWEST, OLDEST, ROOT, TABLES, environment

# The first test of a version waits for two hundred compilations, on cores that others may use.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
BUDGETS = {version: json.loads(path.read_text()) for version, path in TABLES.items()}


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Callable[[str], dict]:
    """``measured(version)``: what every kernel uses; the versions are measured side by side."""
    running = {}
    for version in BUDGETS:
        try:
            variables = environment(version, False, tmp_path_factory.mktemp("cache"))
        except pytest.skip.Exception as reason:
            running[version] = str(reason)
            continue
        command = [sys.executable, "scripts/kernel_budgets.py"]
        running[version] = subprocess.Popen(
            command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    results: dict[str, dict] = {}

    def result(version: str) -> dict:
        process = running[version]
        if isinstance(process, str):
            pytest.skip(process)
        if version not in results:
            out, err = process.communicate()
            assert process.returncode == 0, err
            results[version] = json.loads(out)
        return results[version]

    yield result
    for process in running.values():
        if not isinstance(process, str):
            process.communicate()


@pytest.mark.parametrize("version", BUDGETS)
def test_every_kernel_has_a_budget(version, measured):
    assert set(measured(version)) == set(BUDGETS[version]), f"run scripts/kernel_budgets.py --write on Triton {version}"


@pytest.mark.parametrize(
    ("version", "kernel"), [(version, kernel) for version in BUDGETS for kernel in BUDGETS[version]]
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
            if kernel.startswith(("update/", "mlp_step/update")):
                assert (budget["load"], budget["store"]) == (128, 128)
            if kernel.startswith("conv_step/update"):  # two weights a thread: with four, registers spill
                assert (budget["load"], budget["store"]) == (64, 64)
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
