"""The rooms of the house: which module may import which, and how long what is in them may be."""

import ast
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KERNEL_DOORS = ("engines", "methods", "curvature")
ONE_DOOR = (
    "triton",
    "cupy",
    "nvtx",
    "matplotlib",
    "pyarrow",
    "ray",
    "rich",
    "pooch",
    "PIL",
    "plotly",
    "jinja2",
    "fsspec",
)
HEAVY = {*ONE_DOOR, "numba", "pandas", "scipy"}
DRAWING = {"drawing", "paper", "srank_validation"}
MOST_LINES, MOST_LINES_OF_A_FUNCTION, OF_A_KERNEL = 400, 60, 120
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@cache
def imported(path: Path) -> frozenset[str]:
    """Full names of everything a file imports."""
    names = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def imported_at_top(path: Path) -> set[str]:
    """Roots of what a file imports when it is imported itself."""
    names = set()
    for node in tree(path).body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


@cache
def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def roots(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path)}


def found(folder: str, forbidden: set[str], imports=roots) -> dict[str, set[str]]:
    """Files of a folder that import what is forbidden, and what."""
    return {str(path.relative_to(ROOT)): bad for path in files(folder) if (bad := imports(path) & forbidden)}


def test_kernels_do_not_know_fastplast():
    assert not found("kernels", {"fastplast", "bench", "tests", "scripts"})


def test_fastplast_reaches_kernels_only_through_its_doors():
    assert not found("fastplast", {"bench", "tests", "scripts"})
    rooms = {Path(name).parts[1] for name in found("fastplast", {"fastplast_kernels"})}
    assert rooms <= set(KERNEL_DOORS)


def test_config_and_its_rules_need_the_standard_library_only():
    beside = [ROOT / "fastplast/text.py", ROOT / "fastplast/bounded.py"]
    names = set().union(*(imported(path) for path in [*files("fastplast/config"), *beside]))
    ours = {name for name in names if name.split(".")[0] == "fastplast"}
    assert {name.split(".")[0] for name in names - ours} <= set(sys.stdlib_module_names) | {"__future__"}
    assert all(name.startswith(("fastplast.config", "fastplast.text", "fastplast.bounded")) for name in ours)


def test_heavy_packages_are_imported_when_used_and_not_before():
    assert not found("fastplast", HEAVY, imported_at_top)


def test_a_heavy_package_has_one_door():
    rooms = {package: {Path(name).parts[1] for name in found("fastplast", {package})} for package in ONE_DOOR}
    assert rooms.pop("matplotlib") == DRAWING
    assert not {package: doors for package, doors in rooms.items() if len(doors) > 1}


def test_live_views_have_one_door():
    views = ("torch.utils.tensorboard", "tensorboard", "wandb")
    doors = {path.name for path in files("fastplast") if any(name.startswith(views) for name in imported(path))}
    assert doors <= {"tensorboard.py"}


def test_only_the_command_line_and_display_print():
    speakers = set()
    for path in files("fastplast"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                speakers.add(path.name)
    assert speakers <= {"main.py", "commands.py", "train.py", "progress.py"}


@pytest.mark.parametrize(
    ("command", "imports"),
    [
        (["--help"], "[]"),
        (["figure", "--list"], "['numpy']"),
        *((["list", what], "[]") for what in ("figures", "benchmarks", "methods", "networks", "probes")),
        (["figure", "99"], "['numpy']"),
    ],
)
def test_commands_that_compute_nothing_do_not_import_torch(command, imports):
    code = (
        "import sys, contextlib, io\nfrom fastplast.cli.main import run\n"
        f"with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n    run({command})\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == imports


def test_no_file_is_pickled():
    pickling = [path for path in files("fastplast") if any(f"torch.{f}" in path.read_text() for f in ("save", "load"))]
    assert not pickling


def code() -> list[Path]:
    return [path for folder in ("fastplast", "kernels", "scripts", "bench", "tests") for path in files(folder)]


def test_files_of_tests_have_names_of_their_own():
    """Folders of tests are no packages: of two files of one name the second would not be imported."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py")
    assert not [name for name, count in names.items() if count > 1]


def test_files_stay_short():
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in code()}
    assert not {name: count for name, count in lines.items() if count > MOST_LINES}


def test_functions_stay_short():
    """What runs on a GPU, and the functions that build a CPU kernel around its parts, may be twice as long."""
    long = {}
    for path in code():
        most = OF_A_KERNEL if path.is_relative_to(ROOT / "kernels") else MOST_LINES_OF_A_FUNCTION
        for node in ast.walk(tree(path)):
            if isinstance(node, FUNCTIONS) and (count := node.end_lineno - node.lineno + 1) > most:
                long[f"{path.relative_to(ROOT)}: {node.name}"] = count
    assert not long


def file_of(name: str) -> Path | None:
    """The file of a module of fastplast or of its kernels; None for any other name."""
    top, *rest = name.split(".")
    if top not in ("fastplast", "fastplast_kernels"):
        return None
    base = ROOT.joinpath(top.removeprefix("fastplast_"), *rest)
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.exists()), None)


def imported_files(path: Path) -> set[Path]:
    """Files that a file imports, at its top or when it is used; what only a type checker imports does not count."""
    found, nodes = set(), [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {file_of(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {file_of(f"{node.module}.{alias.name}") or file_of(node.module) for alias in node.names}
    return found - {None, path}


def circular(arrows: dict[str, set[str]]) -> list[str]:
    """The arrows that lie on a circle: from their end there is a way back to their start."""

    def reached(start: str) -> set[str]:
        found, left = set(), [start]
        while left:
            new = arrows.get(left.pop(), set()) - found
            found |= new
            left += new
        return found

    ways = {name: reached(name) for name in arrows}
    return sorted(f"{a} -> {b}" for a in arrows for b in arrows[a] if a in ways.get(b, ()))


@pytest.mark.parametrize("folder", ["fastplast", "kernels"])
def test_no_files_import_each_other_in_a_circle(folder):
    arrows = {path: imported_files(path) for path in files(folder)}
    named = {str(a.relative_to(ROOT)): {str(b.relative_to(ROOT)) for b in arrows[a]} for a in arrows}
    assert not (found := circular(named)), "\n".join(found)


@pytest.mark.parametrize("folder", ["fastplast", "kernels"])
def test_no_rooms_import_each_other_in_a_circle(folder):
    def room(path: Path) -> str:
        return path.relative_to(ROOT / folder).parts[0].removesuffix(".py")

    arrows: dict[str, set[str]] = {}
    for path in files(folder):
        inside = {other for other in imported_files(path) if other.is_relative_to(ROOT / folder)}
        arrows.setdefault(room(path), set()).update({room(other) for other in inside} - {room(path)})
    assert not (found := circular(arrows)), "\n".join(found)


def test_each_folder_of_tests_has_its_core_among_the_quick_ones():
    """What ``scripts/test.sh --quick`` runs is there, and is of every folder."""
    names = [line for line in (ROOT / "tests/quick.txt").read_text().splitlines() if not line.startswith("#")]
    functions = {
        f"{path.relative_to(ROOT)}::{node.name}"
        for path in files("tests") for node in ast.walk(tree(path)) if isinstance(node, FUNCTIONS)
    }  # fmt: skip
    known = functions | {name.split("::")[0] for name in functions}
    assert not [name for name in names if name not in known]
    folders = {path.parent for path in files("tests") if path.name.startswith("test_") and path.parent.name != "gpu"}
    assert {(ROOT / name.split("::")[0]).parent for name in names} == folders
