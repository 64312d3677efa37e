"""Runs the steps of `gpu_steps`, each in a process of its own with a limit of time; see ``gpu_acceptance.sh``.

After every step, and every few seconds of a long one, what is known is written: a machine that is taken away in the
middle has given what it had.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gpu_environment import LACKS
from gpu_steps import MODES, Step, missing, steps_of

ROOT = Path(__file__).resolve().parents[1]
KERNELS = ROOT / "build/gpu_kernels.tar.gz"  # made by gpu_kernel_cache.py
TELL_SECONDS = 5.0  # between two writings of the summary while a step runs
SLOWER = 8  # limits of a dry run, in those of a GPU
_ERROR = re.compile(r"^(E  |FAILED |ERROR |[\w.]*(Error|Exception|Interrupt)\b|========= .*(Invalid|[Rr]ace|leaked))")


@dataclass
class Row:
    """What a step did: `passed`, `failed`, `ended at its limit`, `left out`, `running`, `not run`; and its results."""

    step: str
    status: str = "not run"
    seconds: float = 0.0
    error: str = ""
    results: Any = None


def error_of(log: str) -> str:
    """The first line of a log that names an error, or else its last."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    return next((line for line in lines if _ERROR.match(line)), lines[-1] if lines else "it printed nothing")[:300]


def shortened(results: Any) -> Any:
    """Results as they are; of what pytest-benchmark writes, what each bench says of itself."""
    if "benchmarks" not in results:
        return results
    return {bench["name"]: bench["extra_info"] for bench in results["benchmarks"]}


def execute(step: Step, row: Row, work: Path, limit: float, tell: Callable[[], None]) -> None:
    """Runs a step into its row; whatever it has started ends with it, and with this process, even if that is killed."""
    begun, log = time.monotonic(), work / f"{step.name}.log"

    def look() -> None:
        row.seconds = round(time.monotonic() - begun, 1)
        with contextlib.suppress(OSError, ValueError):  # nothing yet, or half a file
            row.results = shortened(json.loads((work / step.results).read_text())) if step.results else None
        tell()

    row.status = "running"
    with log.open("w") as output:
        child = subprocess.Popen(
            step.command, cwd=ROOT, env=os.environ | step.variables, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, preexec_fn=os.setpgrp,
        )  # fmt: skip
        command = ["sh", "-c", 'read _; kill -s KILL -- "-$1"', "sh", str(child.pid)]  # input ends with this process
        watchdog = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        try:
            while child.poll() is None and time.monotonic() - begun < limit:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(max(0.0, min(TELL_SECONDS, limit - (time.monotonic() - begun))))
                look()
        finally:
            code = child.poll()
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            watchdog.kill()
            child.wait()
            watchdog.communicate()
    text = log.read_text(errors="replace")
    if code is None:
        row.status, row.error = "ended at its limit", f"{limit:.0f} s were not enough"
    else:
        row.status = "failed" if code else "passed"
        row.error = f"ended by signal {-code}" if code < 0 else error_of(text) if code else ""
    if code == LACKS and step.name == "environment":
        row.status = "impossible"
    look()
    print("\n".join(text.splitlines()[-step.shown :]), flush=True)


def write(path: Path, text: str) -> None:
    """Replaces a file: there is the old or the new one, never a part."""
    new = path.with_name(f".{path.name}")
    new.write_text(text)
    new.replace(path)


def pack(work: Path, archive: Path) -> None:
    """All that steps wrote, in one file."""
    new = archive.with_name(f".{archive.name}")
    with tarfile.open(new, "w:gz") as tar:
        for path in sorted(work.iterdir()):
            if path.is_file():
                tar.add(path, path.name)
    new.replace(archive)


def table(rows: list[Row]) -> str:
    """What every step did, for a terminal."""
    width = max(len(row.step) for row in rows)
    return "\n".join(f"{row.step:{width}}  {row.seconds:6.1f} s  {row.status:18}  {row.error}".rstrip() for row in rows)


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """An environment in which steps find the packages, as a copy of the repository has them, and compiled kernels."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, folder in {"fastplast": "fastplast", "fastplast_kernels": "kernels"}.items():
            Path(scratch, name).symlink_to(ROOT / folder)
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [scratch, os.environ.get("PYTHONPATH")]))
        os.environ.setdefault("FASTPLAST_DATA", str(Path(scratch, "data")))  # none: the images that fastplast brings
        os.environ["FASTPLAST_PYTEST_INI"] = str(Path(scratch, "pytest.ini"))
        Path(scratch, "pytest.ini").write_text("[pytest]\nmarkers =\n    gpu\n    slow\n")  # plugins may be missing
        with contextlib.suppress(OSError, tarfile.TarError):
            if os.environ.get("TRITON_INTERPRET") != "1" and KERNELS.exists():
                with tarfile.open(KERNELS) as tar:  # its first member is the folder, whose path is part of its files
                    folder = Path("/", tar.next().name)
                    tar.extractall("/", filter="data")
                os.environ["TRITON_CACHE_DIR"] = str(folder)
        yield


def run_mode(mode: str, arguments: argparse.Namespace) -> list[Row]:
    """Runs the steps of a mode, and writes its two files after each."""
    begun, limit = time.monotonic(), MODES[mode] * (SLOWER if arguments.dry_run else 1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        steps = [s for s in steps_of(mode, work, arguments.dry_run) if not arguments.only or s.name in arguments.only]
        rows, results = [Row(step.name) for step in steps], arguments.directory

        def tell() -> None:
            if results is not None and results.is_dir():
                kept = {"mode": mode, "dry_run": arguments.dry_run, "seconds": round(time.monotonic() - begun, 1)}
                write(
                    results / f"{mode}.json", json.dumps(kept | {"steps": [asdict(r) for r in rows]}, indent=1) + "\n"
                )

        for step, row in zip(steps, rows):
            print(f"\n== {mode}: {step.name}", flush=True)
            reason, left = missing(step), limit - (time.monotonic() - begun)
            allowed = min(left, step.seconds * (SLOWER if arguments.dry_run else 1), arguments.most)
            try:
                if reason is not None:
                    row.status, row.error = "left out", reason
                elif left <= 1:
                    row.error = f"the {limit:.0f} s of {mode} are over"
                else:
                    execute(step, row, work, allowed, tell)
            finally:
                if results is None and row.status != "impossible":
                    found = (row.results or {}).get("directory", "unknown")
                    results = arguments.directory = ROOT / "bench/results" / found
                if results is not None:
                    results.mkdir(parents=True, exist_ok=True)
                    tell()
                    pack(work, results / f"{mode}.tar.gz")
            print(f"{row.status} after {row.seconds} s {row.error}".rstrip(), flush=True)
            if row.status == "impossible":
                break
    return rows


def main() -> None:
    """Runs the modes that are asked for, prints what every step did, and exits with 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for mode, seconds in MODES.items():
        parser.add_argument(f"--{mode}", action="append_const", dest="modes", const=mode, help=f"{seconds} s at most")
    parser.add_argument("--dry-run", action="store_true", help="on a CPU, in Triton's interpreter, small")
    parser.add_argument("--only", type=lambda text: text.split(","), help="of the steps, these")
    parser.add_argument("--most", type=float, default=float("inf"), help="seconds of a step at most")
    parser.add_argument("directory", nargs="?", type=Path, default=os.environ.get("OUT") and Path(os.environ["OUT"]))
    arguments = parser.parse_args()
    if arguments.dry_run:
        os.environ["TRITON_INTERPRET"] = "1"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the running step ends, and what is known is written
    rows: list[Row] = []
    with prepared():
        for mode in arguments.modes or MODES:
            rows += run_mode(mode, arguments)
            if any(row.status == "impossible" for row in rows):
                break
    print(f"\n{table(rows)}\n\nwritten to {arguments.directory}", flush=True)
    bad = [row for row in rows if row.status not in ("passed", "left out")]
    sys.exit("\n".join(f"{row.step}: {row.status}: {row.error}" for row in bad) if bad else 0)


if __name__ == "__main__":
    main()
