"""Parts of the documentation that are made from the code: ``mkdocs`` puts them in place of ``{{ name }}``."""

from __future__ import annotations

import argparse
import collections
import csv
import dataclasses
import importlib.util
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fills in a page; called by mkdocs.

    Args:
        markdown: of the page.

    Returns:
        The page with what the code says.
    """
    return re.sub(r"^\{\{ (\w+) \}\}$", lambda match: PARTS[match[1]](), markdown, flags=re.MULTILINE)


def table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown.

    Args:
        header: of the columns.
        rows: cells.

    Returns:
        Its lines.
    """
    lines = [list(header)]
    lines += [["---"] * len(lines[0]), *(list(row) for row in rows)]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def cli() -> str:
    """Every command with its options."""
    from fastplast.cli.parser import build_parser, command_parsers

    text = []
    for name, sub in command_parsers(build_parser()).items():
        text += [f"## fastplast {name} {{ #{name} }}", "", f"{_sentence(sub.description or '')}", ""]
        text += [f"```\n{_usage(name, sub)}\n```", ""]
        for group in sub._action_groups:
            rows = [(_words(action), _help(action)) for action in group._group_actions if is_shown(action)]
            if rows:
                title = {"positional arguments": "", "options": "", "optional arguments": ""}.get(
                    group.title or "", group.title or ""
                )
                text += [f"**{title[:1].upper()}{title[1:]}**", ""] if title else []
                text += [_sentence(group.description), ""] if group.description else []
                text += [table((" ", "what it does"), rows), ""]
    return "\n".join(text)


def exit_codes() -> str:
    """Every exit status."""
    from fastplast.cli.exit_codes import EXIT_CODES

    return table(("status", ""), ((f"`{status}`", text) for status, text in EXIT_CODES.items()))


def is_shown(action: argparse.Action) -> bool:
    """Whether a flag is on the page: not help itself, nor what a command takes only to check it."""
    return action.help != argparse.SUPPRESS and "--help" not in action.option_strings


def _usage(name: str, parser: argparse.ArgumentParser) -> str:
    places = [_metavar(action) for action in parser._actions if not action.option_strings]
    return " ".join(["fastplast", name, *places, "[OPTIONS]"])


def _metavar(action: argparse.Action) -> str:
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices is not None else None
    word = action.metavar or choices or ("" if action.nargs == 0 else action.dest.upper())
    return {"?": f"[{word}]", "+": f"{word} [{word} ...]"}.get(str(action.nargs), str(word))


def _words(action: argparse.Action) -> str:
    if not action.option_strings:
        return f"`{_metavar(action)}`"
    value = _metavar(action) if not isinstance(action, argparse.BooleanOptionalAction) else ""
    return "<br>".join(f"`{option} {value}`".replace(" `", "`") for option in action.option_strings)


def _help(action: argparse.Action) -> str:
    text = action.help or ""
    if isinstance(action.default, list) and action.default:
        text += f" (default: {' '.join(map(str, action.default))})"
    return text.strip()


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text + ("" if text.endswith((".", ")", ":")) else ".")


def experiment() -> str:
    """Every field of ``Experiment``."""
    from fastplast.cli.flags import GROUPS
    from fastplast.config import Experiment, option_fields

    text = []
    for group, title in GROUPS.items():
        rows = []
        for field in dataclasses.fields(Experiment):
            if field.metadata["group"] == group:
                choices = field.metadata["choices"]
                what = field.metadata["help"] + (": " + ", ".join(f"`{c}`" for c in choices) if choices else "")
                kind = str(field.type).replace(" | ", " or ")
                rows.append((f"`{field.name}`", f"`{kind}`", f"`{field.default}`", what))
        if group == "methods":
            for name, _, option in option_fields():
                what = option.help + (": " + ", ".join(f"`{c}`" for c in option.choices) if option.choices else "")
                rows.append((f"`{name}`", f"`{type(option.default).__name__}`", f"`{option.default}`", what))
        text += [f"## {title[:1].upper()}{title[1:]}", "", table(("field", "type", "default", ""), rows), ""]
    return "\n".join(text)


def metrics() -> str:
    """The definition of every column."""
    from fastplast.config import DEFINITIONS, DEFINITIONS_ON_REQUEST

    found = [(f"`{name}`", text, "") for name, text in DEFINITIONS.items()]
    for name, definitions in DEFINITIONS_ON_REQUEST.items():
        found += [(f"`{column}`", text, f"`{name}`") for column, text in definitions.items()]
    return table(("column", "definition", "`--metrics`"), found)


def methods() -> str:
    """Every method."""
    from fastplast.config import METHOD_SUMMARIES

    rows = ((f"`{name}`", summary, reference) for name, (summary, reference) in METHOD_SUMMARIES.items())
    return table(("method", "", "reference"), rows)


def networks() -> str:
    """Every built-in network."""
    from fastplast.config import NETWORK_SUMMARIES

    return table(("network", ""), ((f"`{name}`", summary) for name, summary in NETWORK_SUMMARIES.items()))


def benchmarks() -> str:
    """Every benchmark."""
    from fastplast.config import BENCHMARKS

    rows = (
        (f"`{name}`", v["dataset"] or "any (`--dataset`)", f"`{v['change']}`", str(v["tasks"]), f"`{v['network']}`")
        for name, v in BENCHMARKS.items()
    )
    return table(("benchmark", "dataset", "change", "tasks", "network"), rows)


def grids() -> str:
    """The grids of the paper."""
    text = []
    for path in sorted((ROOT / "docs/grids").iterdir()):
        text += [f"### {path.name}", "", f"```{path.suffix[1:]}\n{path.read_text().rstrip()}\n```", ""]
    return "\n".join(text)


def speed() -> str:
    """Every table of ``bench/results``."""
    spec = importlib.util.spec_from_file_location("bench_table", ROOT / "scripts/bench_table.py")
    assert spec is not None
    assert spec.loader is not None
    bench_table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench_table)
    text = []
    for machine in sorted(path for path in (ROOT / "bench/results").iterdir() if path.is_dir()):
        runs = [json.loads(path.read_text()) for path in sorted(machine.glob("*.json"))]
        runs = [run for run in runs if "benchmarks" in run]
        if runs:
            lines = bench_table.tables(runs).replace("\n# commit", "\n**commit").replace("## test_", "## ").splitlines()
            lines = [line + "**" if line.startswith("**commit") else line for line in lines]
            text += [re.sub(r"^(#+) ", r"#\1 ", line) for line in lines]
    return "\n".join(text)


def modifications() -> str:
    """Times of an update with each modification on two engines, from ``bench/results``."""
    rows = []
    for path in sorted((ROOT / "bench/results").glob("*/modifications.json")):
        for bench in json.loads(path.read_text())["benchmarks"]:
            us = bench["extra_info"]["us"]
            kinds = dict.fromkeys(name.rsplit(", engine ", 1)[0] for name in us)
            of = bench["group"].split(", batch")[0]
            cells = {
                kind: [f"{us.get(f'{kind}, engine {e}', float('nan')):,.0f}" for e in ("cpu", "vmap")] for kind in kinds
            }
            rows += [(of if kind == "plain" else f"with {kind}", *cells[kind]) for kind in kinds]
    return table(("", "`cpu`", "`vmap`"), rows)


def certificates() -> str:
    """Every file of ``docs/results/srank``: certified and exact stable ranks, and other estimates."""
    header = ("network", "states", "dimension", "stable rank", "`auto` certifies", "by", "Gauss–Newton part", "Fisher")
    rows = []
    for path in sorted((ROOT / "docs/results/srank").glob("*.csv")):
        with path.open() as file:
            cases = [case for case in csv.DictReader(file) if case["method"] == "auto"]
        number = {name: [int(case[name]) for case in cases] for name in _RANKS}
        same = sum(lo == hi for lo, hi in zip(number["lo"], number["hi"]))
        certified = f"{same} of {len(cases)} integers, others within {max(map(_width, cases))}"
        wrong = sum(not int(case["lo"]) <= int(case["exact"]) <= int(case["hi"]) for case in cases)
        used = collections.Counter(case["used"] for case in cases)
        rows.append((
            path.stem.replace("-", ", "), str(len(cases)), _range(number["dimension"]), _range(number["exact"]),
            certified + (f", {wrong} wrong" if wrong else ""),
            ", ".join(f"{n} {name}" for name, n in sorted(used.items())),
            _range(number["gauss_newton"]), _range(number["fisher"]),
        ))  # fmt: skip
    return table(header, rows)


_RANKS = ("exact", "lo", "hi", "dimension", "gauss_newton", "fisher")


def _width(case: dict[str, str]) -> int:
    return int(case["hi"]) - int(case["lo"])


def _range(values: list[int]) -> str:
    return f"{min(values):,}–{max(values):,}"


API = (
    "fastplast",
    "fastplast.stats",
    "fastplast.drawing",
    "fastplast.methods",
    "fastplast.problems",
    "fastplast.measuring",
    "fastplast.data",
    "fastplast.curvature",
)


def api() -> str:
    """Every public function and class of the modules in ``API``, with its docstring."""
    text = []
    for name in API:
        module = importlib.import_module(name)
        found = [(one, getattr(module, one)) for one in sorted(module.__all__, key=str.casefold)]
        shown = [(one, value) for one, value in found if inspect.isclass(value) or inspect.isfunction(value)]
        text += [f"## {name} {{ #{name} }}", ""]
        for one, value in shown:
            text += _documented(f"{name}.{one}", value, "###")
            methods = inspect.getmembers(value, inspect.isfunction) if inspect.isclass(value) else []
            for own, method in methods:
                if not own.startswith("_") and method.__doc__:
                    text += _documented(f"{one}.{own}", method, "####")
    return "\n".join(text)


def _documented(name: str, value: Any, level: str) -> list[str]:
    # Without the types of parameters, which the docstring has where they are not plain: a line of names can be read.
    is_known = inspect.isclass(value) and issubclass(value, Exception)
    parameters = [] if is_known else list(inspect.signature(value).parameters.values())
    shown = [str(one.replace(annotation=inspect.Parameter.empty)) for one in parameters if one.name != "self"]
    shown = [one for one in shown if "<factory>" not in one]
    call = f"{name.rpartition('.')[2]}({', '.join(shown)})"
    lines = textwrap.wrap(call, 100, subsequent_indent="    ", break_on_hyphens=False)
    return [f"{level} {name} {{ #{name} }}", "", "```python", *lines, "```", "", *_sections(value.__doc__ or ""), ""]


def _sections(docstring: str) -> list[str]:
    """A docstring of Google's style as Markdown."""
    titles = r"^(Args|Attributes|Returns|Yields|Raises|Example|Reference):\n"
    paragraphs = re.split(titles, inspect.cleandoc(docstring), flags=re.MULTILINE)
    text = [paragraphs[0].strip(), ""]
    for title, body in zip(paragraphs[1::2], paragraphs[2::2]):
        body = textwrap.dedent(body).strip()
        if title == "Example":
            text += ["**Example**", "", "```python", body.replace("  # doctest: +SKIP", ""), "```", ""]
        elif title in ("Args", "Attributes", "Raises"):
            items = re.split(r"\n(?=\S)", body)
            text += [
                f"**{title}**",
                "",
                *(re.sub(r"^(\S+):\s", r"- `\1`: ", " ".join(one.split())) for one in items),
                "",
            ]
        else:
            text += [f"**{title}**: {' '.join(body.split())}", ""]
    return [re.sub(r"(?<!`)``(?!`)", "`", line) for line in text]


PARTS: dict[str, Callable[[], str]] = {
    "api": api,
    "cli": cli,
    "exit_codes": exit_codes,
    "experiment": experiment,
    "metrics": metrics,
    "methods": methods,
    "networks": networks,
    "benchmarks": benchmarks,
    "grids": grids,
    "speed": speed,
    "modifications": modifications,
    "certificates": certificates,
}
