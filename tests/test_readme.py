"""What the README tells people to type works, at a small size."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import fastplast
from fastplast.cli.main import run
from fastplast.cli.parser import build_parser

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SMALL = {"tasks": 1, "epochs": 1, "examples": 32, "seeds": 2}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line]


def test_the_first_two_commands_are_the_demo_and_the_tests():
    assert commands()[:2] == ["bash scripts/demo.sh", "bash scripts/test.sh --quick"]


def test_scripts_are_whole_shell_programs():
    for script in [*(ROOT / "scripts").glob("*.sh"), ROOT / ".ci/run"]:
        subprocess.run(["bash", "-n", str(script)], check=True)


def test_commands_run(tmp_path, monkeypatch, capsys):
    """In order; ``train`` at a small size, later commands on the run that it made."""
    monkeypatch.chdir(tmp_path)
    made = tmp_path / "run"
    for line in commands():
        words = shlex.split(line)
        if words[0] != "fastplast":
            assert words[0] in {"bash", "pip"}, line
            continue
        if words[1] in {"train", "sweep"}:
            small = [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]
            words += [*small, "--out", str(made if words[1] == "train" else tmp_path / "sweep")]
        words = [str(made) if word.startswith("runs/") else word for word in words]
        words = [str(ROOT / word) if word.startswith("docs/") else word for word in words]
        assert run(words[1:]) == 0, line
    capsys.readouterr()


def test_python_blocks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = fastplast.Experiment
    numbers = iter(range(100))
    monkeypatch.setattr(
        fastplast, "Experiment", lambda **fields: whole(**fields | SMALL | {"out": f"run{next(numbers)}"})
    )
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), {})


def test_every_command_and_flag_it_names_exists():
    parser = build_parser()
    helps = {
        name: sub.format_help()
        for action in parser._subparsers._group_actions  # type: ignore[union-attr]
        for name, sub in action.choices.items()  # type: ignore[union-attr]
    }
    for name in re.findall(r"`fastplast (\w+)", README):
        assert name in helps, name
    for flag in set(re.findall(r"(--[a-z][a-z-]+)", README.replace("scripts/test.sh --quick", ""))):
        assert any(flag in text for text in helps.values()), flag
    assert "--quick" in (ROOT / "scripts/test.sh").read_text()


def test_speeds_are_those_in_the_results_of_the_benches():
    column = "mnist_shuffle, 30 members, batch 16, adam"
    columns = [column, column.replace("mnist", "cifar"), f"{column}, method wasserstein"]
    names = {
        "fastplast, engine `cpu`": ("engine cpu",),
        "JAX `lax.map`": ("JAX lax.map", "JAX lax.map, sort and search"),
        "`torch.func.vmap`, fused Adam": ("torch.func.vmap, fused Adam",),
        "JAX `vmap`": ("JAX vmap",),
        "PyTorch, one network after another, fused Adam": ("torch loop, fused Adam",),
        "fastplast, engine `vmap`, for any module": ("engine vmap",),
    }
    results = ROOT / "bench/results/amd-epyc-2-cores"
    runs = [json.loads((results / f"{name}.json").read_text()) for name in ("training", "wasserstein")]
    measured = {bench["group"]: bench["extra_info"] for run in runs for bench in run["benchmarks"]}
    for row, keys in names.items():
        (line,) = [line for line in README.splitlines() if line.startswith(f"| {row} |")]
        for cell, group in zip(line.split("|")[2:-1], columns):
            found = [key for key in keys if key in measured[group]["us"]]
            us = "".join(f"{measured[group]['us'][key]:,.0f}" for key in found)
            ratio = "".join(f" ({measured[group]['ratio'][key]:.1f})" for key in found if key != "engine cpu")
            assert cell.strip() == us + ratio, (row, group)


def test_pictures_are_there():
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README):
        assert (ROOT / path).is_file(), path
