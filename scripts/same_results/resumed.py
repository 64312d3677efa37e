"""Runs that are killed or stopped in the middle of a task, and resumed: beside the same runs, uninterrupted."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import fastplast as fp

from .digests import Entries, add_run, command, mask

_WORDS = ["--tasks", "3", "--epochs", "40", "--examples", "96", "--widths", "16", "12", "8", "--threads", "1"]
_WORDS += ["--seeds", "2", "--method", "wasserstein", "--strength", "0.1", "--epoch-curves", "--srank", "both"]
_WORDS += ["--checkpoint-minutes", "0.00001"]  # after every epoch, so that there is one in the middle of a task


def cut_short(entries: Entries) -> None:
    """Where a run was cut depends on the moment, what it is after a resume does not."""
    for engine in ("cpu", "vmap"):
        words = [*_WORDS, "--engine", engine]
        entries[f"{engine}/whole/text"] = command("train", *words, "--quiet", "--out", f"{engine}-whole").text
        add_run(entries, f"{engine}/whole", fp.load(f"{engine}-whole"), whole=False)
        for name, number in (("killed", signal.SIGKILL), ("stopped", signal.SIGINT)):
            out = f"{engine}-{name}"
            entries[f"{engine}/{name}/end"] = _interrupt(["train", *words, "--out", out], Path(out), number)
            entries[f"{engine}/{name}/other configuration"] = command("resume", out, "--tasks", "9").text
            entries[f"{engine}/{name}/resume"] = command("resume", out, "--quiet").text
            add_run(entries, f"{engine}/{name}", fp.load(out), whole=False)


def _interrupt(words: list[str], out: Path, number: signal.Signals) -> str:
    """Starts a command, sends it a signal in the middle of its second task, and says how it ended.

    Raises:
        RuntimeError: if it ends before the signal.
    """
    child = subprocess.Popen([sys.executable, "-m", "fastplast", *words], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)  # fmt: skip
    while not _is_within_a_task(out):
        if child.poll() is not None:
            raise RuntimeError(f"a run must still train when it is cut short: got {child.communicate()}")
        time.sleep(0.002)
    child.send_signal(number)
    lines, errors = child.communicate(timeout=120)
    if fp.load(out).is_finished:
        raise RuntimeError("a run must be cut short before it ends: got a finished one. Give it more epochs.")
    last = lines.splitlines()[-2:] if number == signal.SIGINT else []
    words = [line for line in last if line.startswith("Stopped in task")]
    found = "".join(character for character in " ".join(words) if not character.isdigit())
    return f"{child.returncode} {mask(found)} {mask(errors).strip()}"


def _is_within_a_task(out: Path) -> bool:
    try:
        position = json.loads((out / "checkpoint" / "checkpoint.json").read_text(encoding="utf-8"))["position"]
    except (OSError, ValueError):
        return False
    return position["task"] == 1 and position["epoch"] > 1
