"""Machine code is kept under a name that says which sources it was made of."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import fastplast_kernels
import pytest
from fastplast_kernels import compilation

SOURCE = Path(fastplast_kernels.__file__).parent
DAY = 24 * 3600


@pytest.fixture
def package(tmp_path):
    """A copy of the kernels, and where their machine code goes."""
    shutil.copytree(SOURCE, tmp_path / "fastplast_kernels", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "fastplast_kernels"


def directory(package: Path) -> Path:
    """Of the machine code, told by a new process."""
    variables = {"NUMBA_CACHE_DIR": str(package.parent / "cache"), "PATH": "", "PYTHONPATH": str(package)}
    command = [sys.executable, "-c", "import compilation; print(compilation.cache_directory())"]
    return Path(subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.strip())


def edit(package: Path, name: str) -> None:
    (package / name).write_text((package / name).read_text() + "\nVALUE = 1\n")


def test_an_edit_of_a_gpu_kernel_or_of_what_proves_it_throws_no_machine_code_away(package):
    first = directory(package)
    assert first.parent == package.parent / "cache"
    names = [path.relative_to(package).as_posix() for path in package.rglob("*.py")]
    others = [name for name in names if "gpu" in name or name.startswith("proofs/")]
    assert len(others) > 8
    for name in (*others, "train_step/cpu/train.py", "train_step/reference.py"):
        edit(package, name)
    assert directory(package) == first


@pytest.mark.parametrize(
    "name",
    [
        "train_step/cpu/simd.py",
        "train_step/layers.py",
        "dropout/reference.py",
        "optimisers.py",
        "workers.py",
        "compilation.py",
    ],
)
def test_an_edit_of_anything_that_a_compiled_kernel_imports_does(package, name):
    first = directory(package)
    edit(package, name)
    assert directory(package) != first


def test_sources_are_all_that_is_imported_where_kernels_are():
    """Told by Python itself: what modules with kernels bring in."""
    script = """
import sys
from fastplast_kernels.compilation import sources
for path in sources():
    if path.name != "__init__.py":
        __import__(".".join(["fastplast_kernels", *path.relative_to(sources()[0].parent).with_suffix("").parts]))
found = {m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "fastplast_kernels"}
packages = {str(path.with_name("__init__.py")) for path in sources()}
missing = {name for name in found if not name.endswith("__init__.py")} - set(map(str, sources()))
print(sorted(missing))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = eval(done.stdout)
    # Of packages that kernels lie in, `__init__` brings in more than kernels use: nothing of it may be compiled.
    assert all(b"compilation" not in Path(name).read_bytes() for name in imported), imported


def test_folders_that_nobody_used_for_a_month_are_removed_and_no_others(package):
    used = directory(package)
    cache = used.parent
    ages = {"kernels-" + 20 * "a": 31, "kernels-" + 20 * "b": 29, "kernels-of-mine": 99, "other": 99}
    for name, days in ages.items():
        (cache / name).mkdir()
        os.utime(cache / name, times=(time.time() - days * DAY,) * 2)
    os.utime(used, times=(0, 0))
    assert directory(package) == used
    assert {path.name for path in cache.iterdir()} == {used.name, *ages} - {"kernels-" + 20 * "a"}
    assert time.time() - used.stat().st_mtime < DAY


def test_what_is_kept_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(compilation, "cache_directory", lambda: str(tmp_path))
    assert not compilation.is_kept("train_step.cpu.step", "train")
    (tmp_path / "cpu_0").mkdir()
    (tmp_path / "cpu_0" / "step.train-1.py311.nbi").touch()
    assert compilation.is_kept("train_step.cpu.step", "train")
    assert not compilation.is_kept("train_step.cpu.step", "watch")
    assert not compilation.is_kept("train_step.gpu.step", "train")
    monkeypatch.setattr(compilation, "cache_directory", lambda: "")
    assert not compilation.is_kept("train_step.cpu.step", "train")


CLOSURES = """
from fastplast_kernels.compilation import called, compiled


def build(term):
    @called
    def step(x):
        for _ in range(1000):
            x = 0.5 * x + term
        return x

    @called
    def steps(x, count):
        for _ in range(count):
            x = step(x)
        return x

    return steps


_one, _two = build(1.0), build(2.0)


@compiled
def one(x, count):
    return _one(x, count)


@compiled
def two(x, count):
    return _two(x, count)
"""
CALLS = "import closures, sys; print(*(getattr(closures, name)(0.0, 3) for name in sys.argv[1:]))"


def test_closures_of_one_name_that_two_processes_compiled_are_told_apart_by_a_third(tmp_path):
    """A kernel of each optimiser is made of closures of one name: machine code of one must not serve the other."""
    (tmp_path / "closures.py").write_text(CLOSURES)
    variables = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    answers = {"one": "2.0", "two": "4.0"}
    for names in (["one"], ["one", "two"], ["two", "one"]):
        command = [sys.executable, "-c", CALLS, *names]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
        assert done.stdout.split() == [answers[name] for name in names]


@pytest.mark.parametrize("kind", ["of all", "link", "own"])
def test_a_shared_place_is_used_only_if_nobody_else_may_write_there(package, tmp_path, kind):
    place = tmp_path / f"fastplast-{os.getuid()}"
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    place.symlink_to(other) if kind == "link" else place.mkdir()
    place.chmod(0o777 if kind == "of all" else 0o700)
    variables = {"XDG_CACHE_HOME": "/dev/null/none", "TMPDIR": str(tmp_path), "PATH": "", "PYTHONPATH": str(package)}
    command = [sys.executable, "-c", "import compilation; print(compilation.cache_directory())"]
    found = subprocess.run(command, env=variables, capture_output=True, text=True, check=True).stdout.strip()
    assert found.startswith(str(place)) if kind == "own" else not found
    assert not list(other.iterdir())
