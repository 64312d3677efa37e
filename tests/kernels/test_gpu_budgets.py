"""GPU kernels, compiled without a GPU, use no more of the machine than their committed budgets."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from triton_versions import NEWEST, OLDEST, ROOT, TABLES, environment

SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}
BUDGETS = {version: json.loads(path.read_text()) for version, path in TABLES.items()}


def exceeded(new: dict[str, int], budget: dict[str, int], architecture: int) -> list[str]:
    """What of a kernel is worse than its budget, in words; counts of instructions may grow by a tenth."""
    worse = []
    for name in ("registers", "shared", "tensor_cores", "barriers"):
        if new[name] > budget[name]:
            worse.append(f"{name}: {new[name]}, budget {budget[name]}")
    for name in ("load", "store"):
        if new[name] < budget[name]:
            worse.append(f"widest {name}: {new[name]} bits, budget {budget[name]}")
    if new["instructions"] > 1.1 * budget["instructions"]:
        worse.append(f"instructions: {new['instructions']}, budget {budget['instructions']} and a tenth")
    if new["spills"]:
        worse.append(f"spills: {new['spills']} bytes, budget 0")
    if new["shared"] > SHARED_LIMIT[architecture]:
        worse.append(f"shared: {new['shared']}, but sm_{architecture} has {SHARED_LIMIT[architecture]}")
    return worse


def asked(variables: dict[str, str], *arguments: str) -> dict:
    """What the script prints."""
    command = [sys.executable, "scripts/kernel_budgets.py", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # hundreds of compilations, on cores that others may use
@pytest.mark.parametrize("version", BUDGETS)
def test_every_kernel_stays_within_its_budget(version, tmp_path):
    measured, budgets = asked(environment(version, False, tmp_path)), BUDGETS[version]
    assert set(measured) == set(budgets), f"run scripts/kernel_budgets.py --write on Triton {version}"
    told = {
        f"{kernel} for {target}": exceeded(usage, budgets[kernel][target], int(target.removeprefix("sm_")))
        for kernel, targets in measured.items()
        for target, usage in targets.items()
    }
    assert not {name: words for name, words in told.items() if words}


def test_what_is_kept_from_earlier_is_what_is_measured_afresh(tmp_path):
    variables = environment(NEWEST, False, tmp_path)
    only = ("--only", "wasserstein/pull")
    kept = asked(variables, *only)
    fresh, again = (asked(variables | {"FASTPLAST_TEST_CACHE": str(tmp_path)}, *only) for _ in range(2))
    assert kept == fresh == again
    assert len(list(tmp_path.rglob("*.cubin"))) == len(list(tmp_path.rglob("usage-*.json"))) == 3


def test_a_kernel_is_known_by_the_functions_it_calls_and_the_constants_it_names(tmp_path):
    """And by the sources of no other: what is kept of those is still right."""
    variables = environment(NEWEST, False, tmp_path)
    shutil.copytree(ROOT / "kernels", tmp_path / "fastplast_kernels")
    for name, before, after in (
        ("wasserstein/gpu.py", "upper = upper ^ (", "upper = upper | ("),  # three calls below the kernel that ranks
        ("train_step/layers.py", "NORM_EPSILON = 1e-5", "NORM_EPSILON = 2e-5"),
        ("train_step/cpu/plan.py", "import numpy", "import  numpy"),
    ):
        path = tmp_path / "fastplast_kernels" / name
        assert path.read_text().count(before) == 1, name
        path.write_text(path.read_text().replace(before, after))
    edited = variables | {"PYTHONPATH": os.pathsep.join((str(tmp_path), variables["PYTHONPATH"]))}
    keys, others = asked(variables, "--keys"), asked(edited, "--keys")
    changed = {name for name in keys if keys[name] != others[name]}
    assert changed >= {"wasserstein/rank", "mlp_step/normalise", "conv_step/modify", "conv_step/modify_pooled"}
    assert not changed & {"wasserstein/insert", "wasserstein/pull", "mlp_step/forward", "conv_step/forward"}


@pytest.mark.parametrize("version", BUDGETS)
def test_budgets_allow_no_spills_and_demand_vector_loads_of_updates(version):
    for kernel, targets in BUDGETS[version].items():
        for budget in targets.values():
            assert budget["spills"] == 0
            assert (budget["tensor_cores"] > 0) == kernel.endswith("_tf32")
            if kernel.startswith(("mlp_step/update", "conv_step/update")) and not kernel.endswith("_norms"):
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


def test_nothing_that_trains_imports_what_proves_it():
    sources = [path for room in ("kernels", "fastplast") for path in (ROOT / room).rglob("*.py")]
    importing = [path for path in sources if "fastplast_kernels.proofs" in path.read_text(encoding="utf-8")]
    assert {path.parent for path in importing} == {ROOT / "kernels/proofs"}


def test_the_oldest_and_a_newer_triton_have_tables():
    assert OLDEST.startswith("3.6.")
    assert OLDEST < NEWEST
