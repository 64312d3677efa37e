"""Compiles every Triton kernel for every GPU architecture, without a GPU, and prints what each uses as JSON.

Run it under the version of Triton in question. With --write the figures become the budgets of that version, in
tests/kernels/budgets/, which a test holds later kernels to; a digest of the kernels' sources is written beside them.

Machine code is kept in $FASTPLAST_TEST_CACHE, or in the user's cache directory, by all that it depends on: the sources
of a kernel and of what it calls, their constants, types of arguments, options, the architecture, the version of Triton.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BUDGETS = ROOT / "tests/kernels/budgets"
KEPT_SECONDS = 30 * 24 * 3600  # how long machine code stays that nobody asks for


def main() -> None:
    """Measures, prints and, if asked to, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="make the figures the budgets of this version of Triton")
    parser.add_argument("--only", metavar="NAME", help="measure one kernel")
    parser.add_argument("--keys", action="store_true", help="print what Triton's cache knows each kernel by")
    parser.add_argument("--sources", action="store_true", help="print a digest of the sources; needs no Triton")
    arguments = parser.parse_args()
    if arguments.sources:
        print(digest_of_sources())
        return
    if os.environ.get("TRITON_INTERPRET") == "1":
        sys.exit("TRITON_INTERPRET must be unset: the interpreter compiles nothing.")

    import triton

    user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "fastplast"
    cache = Path(os.environ.get("FASTPLAST_TEST_CACHE") or user)
    cache /= f"triton-{triton.__version__}"
    os.environ["TRITON_CACHE_DIR"] = str(cache)
    from fastplast_kernels.proofs import convolutions, perceptrons, wasserstein
    from fastplast_kernels.proofs.budgets import ARCHITECTURES, source_of

    configurations = wasserstein.CONFIGURATIONS | perceptrons.CONFIGURATIONS | convolutions.CONFIGURATIONS
    chosen = {name: one for name, one in configurations.items() if arguments.only in (None, name)}
    if arguments.keys:
        print(json.dumps({name: source_of(one).hash() for name, one in chosen.items()}))
        return
    usage = {
        name: {f"sm_{architecture}": usage_of(one, architecture) for architecture in ARCHITECTURES}
        for name, one in chosen.items()
    }
    if arguments.write:
        write(BUDGETS / f"triton-{triton.__version__}.json", usage)
    remove_unused(cache)
    print(json.dumps(usage))


def usage_of(configuration: Any, architecture: int) -> dict[str, int]:
    """What one kernel uses: read from its machine code, or as it was read before, from beside it in Triton's cache."""
    from fastplast_kernels.proofs import budgets
    from triton.runtime.cache import get_cache_manager

    kernel = budgets.compiled(configuration, architecture)
    reader = hashlib.sha256(Path(budgets.__file__).read_bytes()).hexdigest()[:16]
    manager, name = get_cache_manager(kernel.hash), f"usage-{reader}.json"
    if kept := manager.get_file(name):
        os.utime(Path(kept).parent)
        return json.loads(Path(kept).read_text())
    usage = asdict(budgets.usage_of(kernel))
    manager.put(json.dumps(usage), name, binary=False)
    return usage


def remove_unused(cache: Path) -> None:
    """Removes machine code that was not asked for in a month."""
    for folder in cache.iterdir():
        if time.time() - folder.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)


def write(path: Path, usage: dict[str, dict[str, dict[str, int]]]) -> None:
    """Writes a table of budgets, and what the kernels were."""
    lines = []
    for name, targets in usage.items():
        inner = ",\n".join(f'    "{target}": {json.dumps(used)}' for target, used in targets.items())
        lines.append(f'  "{name}": {{\n{inner}\n  }}')
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    path.with_suffix(".sources").write_text(digest_of_sources() + "\n")


def digest_of_sources() -> str:
    """SHA-256 of all files of kernels/ that name Triton, or that such a file imports."""
    texts = {path: path.read_text() for path in (ROOT / "kernels").rglob("*.py")}
    found: set[Path] = set()
    new = {path for path, text in texts.items() if "triton" in text}
    while new:
        found |= new
        new = {path for one in new for path in imported_files(texts[one]) if path in texts} - found
    digest = hashlib.sha256()
    for path in sorted(found):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0{texts[path]}\0".encode())
    return digest.hexdigest()


def imported_files(text: str) -> set[Path]:
    """Where modules of kernels/ that a source imports may be."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    ours = (name.split(".")[1:] for name in names if name.split(".")[0] == "fastplast_kernels")
    paths = [ROOT.joinpath("kernels", *parts) for parts in ours]
    return {path / "__init__.py" for path in paths} | {path.with_suffix(".py") for path in paths}


if __name__ == "__main__":
    main()
