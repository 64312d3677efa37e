"""Texts of the command line: help, lists and what a dry run says."""

from __future__ import annotations

import re

from .digests import Entries, command, digest

COMMANDS = ("train", "resume", "sweep", "status", "plot", "figure", "report", "list", "data", "srank", "export")
_SMALL = ["--seeds", "2", "--tasks", "2", "--epochs", "1", "--examples", "64", "--widths", "12", "8", "--threads", "1"]


def helps(entries: Entries) -> None:
    """Help of the program and of every command; that of the program names all commands."""
    entries["--help"] = command("--help").text
    entries["--version"] = command("--version").text
    for name in COMMANDS:
        text = command(name, "--help").text
        entries[name] = digest(text)
        for number, line in enumerate(text.splitlines()):  # so that a comparison shows what differs
            entries[f"{name}/line {number:03d}"] = line


def lists(entries: Entries) -> None:
    """Every list; ``figure --list`` is among the dry runs, as its times are measured."""
    for what in ("benchmarks", "networks", "methods", "probes"):
        for line in command("list", what).out.splitlines():
            name, _, text = line.partition("  ")
            entries[f"{what}/{name}"] = text.strip()
    entries["data status"] = command("data", "status").text


def dry_runs(entries: Entries) -> None:
    """What would run. ``figure --list`` measures rates of every network at full size for minutes, and is left out."""
    for name, words in {
        "train": ["train", "--learning-rate", "1e-2", "1e-3", "--memory", "2"],
        "train vmap": ["train", "--engine", "vmap", "--memory", "2"],
        "train layer norm": ["train", "--layer-norm", "--method", "l2", "--strength", "0.1", "0.01", "--memory", "1"],
        "sweep": ["sweep", "--activation", "relu", "tanh", "--method", "none", "l2", "--strength", "0.1", "0.01"],
    }.items():
        entries[name] = command(*words, *_SMALL, "--dry-run").text
    memory = ["--memory", "1", "--batch", "2", "--shard", "1/2"]
    entries["sweep slice"] = command("sweep", *_SMALL, *memory, "--dry-run").text
    text = command("figure", "1", "--scale", "smoke", "--dry-run").text
    entries["figure"] = re.sub(r"measured in .*", "", text)
