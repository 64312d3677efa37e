"""Public names with their signatures, and the texts of errors that tests know."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from pathlib import Path
from typing import Any

import fastplast as fp

from .digests import Entries, mask


def names(entries: Entries) -> None:
    """Names of the package and of what its documentation names, fields of ``Experiment``, attributes of classes."""
    from fastplast_kernels import wasserstein

    from fastplast import data, methods, stats

    entries["fastplast"] = " ".join(sorted(fp.__all__))
    for name in fp.__all__:
        _add(entries, f"fp.{name}", getattr(fp, name))
    entries["stats"] = " ".join(sorted(stats.__all__))
    for name in stats.__all__:
        _add(entries, f"fp.stats.{name}", getattr(stats, name))
    for name in ("from_arrays", "load", "fetch"):
        _add(entries, f"fp.data.{name}", getattr(data, name))
    for name in ("Method", "register", "METHODS"):
        _add(entries, f"fp.methods.{name}", getattr(methods, name))
    for name in ("penalty", "sort_init", "wasserstein_penalty"):
        _add(entries, f"wasserstein.{name}", getattr(wasserstein, name))
    for field in dataclasses.fields(fp.Experiment):
        notes = {key: field.metadata[key] for key in ("group", "choices", "help")}
        entries[f"field {field.name}"] = f"{field.type} = {field.default!r} {notes}"
    entries["fields"] = " ".join(field.name for field in dataclasses.fields(fp.Experiment))
    entries["resolved"] = repr(fp.Experiment().resolved().to_dict())


def _add(entries: Entries, name: str, value: Any) -> None:
    """A function's signature; a class's, its bases' kinds, and those of all it has; else what kind it is."""
    if not inspect.isclass(value):
        entries[name] = _signature(value) if callable(value) else type(value).__name__
        return
    kinds = [base.__name__ for base in value.__mro__ if base.__module__ == "builtins"]
    entries[name] = f"class {_signature(value)} {kinds}"
    for attribute in sorted(set(dir(value)) - set(dir(ValueError))):
        if attribute.startswith("_"):
            continue
        found = inspect.getattr_static(value, attribute)
        inner = getattr(value, attribute)
        if isinstance(found, property):
            entries[f"{name}.{attribute}"] = f"property {found.fget and found.fget.__annotations__.get('return')}"
        elif callable(inner):
            kind = "" if inspect.isfunction(found) else f"{type(found).__name__} "
            entries[f"{name}.{attribute}"] = kind + _signature(inner)
        else:
            entries[f"{name}.{attribute}"] = type(inner).__name__


def _signature(value: Any) -> str:
    try:
        return mask(str(inspect.signature(value)))
    except ValueError:  # an exception takes what its base in C takes
        return "(...)"


def tests(entries: Entries) -> None:
    """Each text that a test expects of an error or a warning, so that a text leaves the tests only on purpose.

    An expression that is no plain string is there as it is written, and with it the strings that its names stand for
    in the test's parameters.
    """
    found: set[str] = set()
    for path in sorted((Path(__file__).parents[2] / "tests").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                for expected in _expected(call):
                    found |= _strings(expected, function)
    found |= {text for path in _tables() for text in path}
    for text in found:
        entries[text] = "known"


def _expected(call: ast.Call) -> list[ast.expr]:
    if not isinstance(call.func, ast.Attribute) or call.func.attr not in ("raises", "warns"):
        return []
    return [keyword.value for keyword in call.keywords if keyword.arg == "match"]


def _strings(expected: ast.expr, function: ast.FunctionDef) -> set[str]:
    if isinstance(expected, ast.Constant):
        return {str(expected.value)}
    used = {node.id for node in ast.walk(expected) if isinstance(node, ast.Name)}
    return {f"expression {ast.unparse(expected)}"} | _parameters(function, used)


def _parameters(function: ast.FunctionDef, used: set[str]) -> set[str]:
    """Strings that parameters of a test have in the tables of its decorators."""
    found: set[str] = set()
    for decorator in function.decorator_list:
        if not isinstance(decorator, ast.Call) or len(decorator.args) < 2:
            continue
        named, rows = decorator.args[:2]
        parts = named.elts if isinstance(named, (ast.Tuple, ast.List)) else [named]
        words = [part.value for part in parts if isinstance(part, ast.Constant)]
        for row in rows.elts if isinstance(rows, (ast.Tuple, ast.List)) else []:
            cells = row.elts if isinstance(row, (ast.Tuple, ast.List)) and len(words) > 1 else [row]
            for word, cell in zip(words, cells):
                if word in used:
                    found |= {node.value for node in ast.walk(cell) if _is_text(node)}
    return found


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _tables() -> list[set[str]]:
    """Strings that tests give to helpers named ``refused``, which expect them."""
    found = []
    for path in sorted((Path(__file__).parents[2] / "tests").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
                if isinstance(call.func, ast.Name) and call.func.id == "refused":
                    found += [_strings(argument, function) for argument in call.args]
    return found
