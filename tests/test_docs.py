"""The documentation: it builds without a warning, fetches nothing from elsewhere, and what it says is tried."""

import argparse
import html
import importlib
import inspect
import itertools
import json
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import fastplast
from fastplast import methods
from fastplast.cli.main import run
from fastplast.cli.parser import build_parser
from fastplast.config import DEFINITIONS, METHOD_NAMES, TAKES_STRENGTH, Experiment, option_fields
from fastplast.config.own import PACKAGES
from fastplast.measuring import METRICS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
SMALL = {"tasks": 1, "epochs": 1, "examples": 32, "seeds": 2, "threads": 1}


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), flags=re.DOTALL)


def commands(page: str) -> list[str]:
    lines = [line.split("#")[0].strip() for block in blocks(page, "bash") for line in block.splitlines()]
    return [line for line in lines if line.startswith("fastplast")]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("mkdocs")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(out)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return out


class Fetched(HTMLParser):
    """What a browser fetches by itself to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.urls: list[str] = []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag in ("script", "img", "iframe", "video", "audio", "source", "embed"):
            self.urls += [found["src"]] if found.get("src") else []
        if tag == "link" and found.get("rel") not in ("canonical", "next", "prev"):
            self.urls += [found["href"]] if found.get("href") else []


def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        reader = Fetched()
        reader.feed(page.read_text())
        assert reader.urls
        for url in reader.urls:
            assert not re.match(r"(\w+:)?//", url), (page.name, url)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*['\"]?(\w+:)?//|@import", sheet.read_text()), sheet.name


def test_search_works_from_disk_and_fetches_nothing(site, browser):
    page, fetched, wrong = browser.new_page(), [], []
    page.on("request", lambda request: fetched.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto((site / "index.html").as_uri())
    page.click("input[name=query]")
    page.keyboard.type("wasserstein_penalty")
    page.wait_for_selector(".md-search-result__item", timeout=60_000)
    assert "methods.html" in page.inner_html(".md-search-result__list")
    page.close()
    assert wrong == []
    assert [url for url in fetched if not url.startswith("file:")] == []


def test_the_api_has_every_public_name_with_its_parameters(site):
    page = html.unescape((site / "api.html").read_text())
    modules = re.findall(r'<h2 id="([\w.]+)"', page)
    assert modules[:3] == ["fastplast", "fastplast.stats", "fastplast.drawing"]
    for module in modules:
        for name in importlib.import_module(module).__all__:
            value = pkgutil.resolve_name(f"{module}:{name}")
            if not inspect.isfunction(value):
                continue
            part = page.split(f'id="{module}.{name}"')[1].split("<h3")[0]
            for parameter in inspect.signature(value).parameters:
                assert re.search(rf"<code>\**{parameter}</code>:", part) or not value.__doc__.count("Args:"), (
                    name,
                    parameter,
                )


def test_every_page_is_built_and_no_place_is_left_empty(site):
    for page in PAGES:
        assert "{{ " not in (site / page.replace(".md", ".html")).read_text(), page


def test_every_metric_has_its_equation_or_words_beside_its_definition():
    text = (DOCS / "metrics.md").read_text()
    named = set(re.findall(r"<code>(\w+)</code>|`([\w{}]+)`", text))
    assert set(DEFINITIONS) <= {a or b for a, b in named}
    assert {column for name, metric in METRICS.items() for column in metric.definitions(name)} <= {
        a or b for a, b in named
    }


def test_the_command_line_page_has_every_flag(site):
    page = (site / "cli.html").read_text()
    parser = build_parser()
    (subs,) = (action.choices for action in parser._subparsers._group_actions)  # type: ignore[union-attr]
    for name, sub in subs.items():  # type: ignore[union-attr]
        assert f'id="{name}"' in page
        for action in sub._actions:
            for flag in action.option_strings:
                is_hidden = action.help == argparse.SUPPRESS  # what resume takes only to check it
                assert is_hidden or flag in page or flag in ("-h", "--help"), (name, flag)


def test_the_pages_have_every_field_method_and_definition(site):
    experiment = (site / "experiment.html").read_text()
    for name, field in Experiment.__dataclass_fields__.items():
        assert f"<code>{name}</code>" in experiment or not field.metadata["group"], name
    for name in methods.METHODS:
        assert f"### {name}" in (DOCS / "methods.md").read_text() or name == "none" or name not in METHOD_NAMES, name
    for name, _, _ in option_fields():
        assert f"<code>{name}</code>" in experiment, name


def packages(folder: str) -> set[str]:
    return {path.parent.name for path in (ROOT / folder).glob("*/__init__.py")}


def test_the_map_of_the_code_names_every_folder_and_no_other():
    text = (DOCS / "architecture.md").read_text()
    named = set(re.findall(r"^\| `([\w/]+)/` \|", text, flags=re.MULTILINE))
    kernels = {f"kernels/{name}" for name in packages("kernels")}
    assert named == {"fastplast", "kernels", "tests", "bench", "scripts", "docs"} | packages("fastplast") | kernels
    for path in re.findall(r"`(fastplast/[\w/]+\.py)`", text):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_commands_are_understood(page):
    for line in commands(page):
        build_parser().parse_args(shlex.split(line)[1:])


def test_commands_of_the_tutorial_run(tmp_path, monkeypatch, capsys):
    """In order; training at a small size, later commands on the run that it made."""
    monkeypatch.chdir(tmp_path)
    for line in commands("tutorial.md"):
        words = shlex.split(line)[1:]
        assert run(words + (small() if words[0] == "train" else [])) == 0, line
    capsys.readouterr()


def small() -> list[str]:
    return [word for name, value in SMALL.items() for word in (f"--{name}", str(value))]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_python_blocks_run(page, tmp_path, monkeypatch, capsys, registries):
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    whole, numbers = fastplast.Experiment, iter(range(100))

    def shrunk(**fields: object) -> Experiment:
        return whole(**{"out": f"run{next(numbers)}"} | fields | SMALL)  # type: ignore[arg-type]

    monkeypatch.setattr(fastplast, "Experiment", shrunk)
    for block in blocks(page, "python"):
        exec(compile(block, page, "exec"), {})


def test_the_notebook_runs_and_its_statements_are_those_of_the_results(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(DOCS)
    cells = json.loads((DOCS / "notebook.ipynb").read_text())["cells"]
    names: dict[str, Any] = {}
    for cell in cells:
        assert not cell.get("outputs")
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "notebook.ipynb", "exec"), names)
    assert set(names["chosen"].report_seeds) == {0, 1, 2}
    assert names["difference"].high < 0  # the regulariser has the lower error
    assert [axes.get_title() for axes in names["figure"].axes] == ["relu", "tanh"]
    assert len(names["table"]) == 2 * 2 * 2


def test_containers_run_scripts_that_there_are():
    (command,) = re.findall(r"^CMD (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    prepared = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())["postCreateCommand"]
    scripts = [*json.loads(command)[1:], *re.findall(r"scripts/\w+\.sh", (ROOT / "Dockerfile").read_text() + prepared)]
    assert scripts
    for script in scripts:
        assert (ROOT / script).is_file(), script


@pytest.mark.parametrize("page", PAGES)
def test_every_module_and_name_that_a_page_names_can_be_imported(page):
    text = (DOCS / page).read_text()
    for name in set(re.findall(r"`(fastplast(?:_kernels)?(?:\.\w+)+)[`(]", text)):
        pkgutil.resolve_name(name)
    for module, function in re.findall(r"^\| `(fastplast[\w.]*)` \|.*?`(\w+)", text, flags=re.MULTILINE):
        assert hasattr(pkgutil.resolve_name(module), function), (module, function)


def test_whatever_is_ones_own_takes_fifteen_lines():
    pages = ("tutorial.md", "methods.md", "extending.md")
    doors = [[block for block in blocks(page, "python") if "register" in block] for page in pages]
    assert [len(of_page) for of_page in doors] == [2, 3, 7]
    for package in PACKAGES.values():
        assert any(f"from fastplast.{package} import" in block for of_page in doors for block in of_page), package
    for block in itertools.chain(*doors):
        assert len([line for line in block.splitlines() if line]) <= 15


def test_a_method_of_the_package_is_not_replaced():
    with pytest.raises(ValueError, match="name must be new: got 'l2'"):
        methods.register("l2", methods.METHODS["none"])


def test_an_unknown_method_is_told_with_ones_own_among_the_known(monkeypatch):
    monkeypatch.setitem(TAKES_STRENGTH, "halfway", True)
    with pytest.raises(fastplast.ConfigError, match="Did you mean 'halfway'"):
        Experiment(method="halfwya", strength=(0.1,))
