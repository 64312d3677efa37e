"""What is said of the machine and the repository, and that looking at a repository leaves it as it was."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from fastplast.machine import environment as module

GIT = "git", "-c", "user.name=n", "-c", "user.email=e", "-C"


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Path:
    """A checkout with fastplast in it, in which a file was touched, so that git would write its index anew."""
    root = tmp_path / "checkout"
    place = root / "fastplast" / "machine" / "environment.py"
    place.parent.mkdir(parents=True)
    place.write_text("x = 1\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*GIT, str(root), *words], check=True)
    os.utime(place, (1e9, 1e9))
    monkeypatch.setattr(module, "__file__", str(place))
    return root


def test_looking_at_a_repository_writes_nothing_into_it(repository) -> None:
    """And takes no lock there, which another program's commit would fail at."""
    index = repository / ".git" / "index"
    before = index.read_bytes(), index.stat().st_mtime_ns
    found = module.environment("typed")
    assert len(found["commit"]) == 40
    assert found["dirty"] is False
    assert (index.read_bytes(), index.stat().st_mtime_ns) == before
    (repository / "fastplast" / "machine" / "environment.py").write_text("x = 2\n")
    assert module.environment("typed")["dirty"] is True
    subprocess.run([*GIT, str(repository), "status", "--porcelain"], check=True, capture_output=True)
    assert index.stat().st_mtime_ns >= before[1]


@pytest.mark.parametrize("lock", ["index.lock", "HEAD.lock"])
def test_a_lock_of_another_program_is_no_hindrance(lock, repository) -> None:
    (repository / ".git" / lock).touch()
    found = module.environment("typed")
    assert (len(found["commit"]), found["dirty"]) == (40, False)


def test_a_repository_around_fastplast_is_not_its_own(tmp_path, monkeypatch) -> None:
    subprocess.run([*GIT, str(tmp_path), "init", "-q"], check=True)
    place = tmp_path / "lib" / "fastplast" / "machine" / "environment.py"
    monkeypatch.setattr(module, "__file__", str(place))
    place.parent.mkdir(parents=True)
    found = module.environment("typed")
    assert (found["commit"], found["dirty"]) == (None, None)


def test_without_git_or_with_one_that_hangs_there_is_no_commit(repository, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module.environment("typed")["commit"] is None
    git = tmp_path / "git"
    git.write_text("#!/bin/sh\necho broken >&2\nexit 128\n")
    git.chmod(git.stat().st_mode | stat.S_IXUSR)
    assert module.environment("typed")["commit"] is None
