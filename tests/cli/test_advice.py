"""What is said of a run can be followed: commands run as pasted, and advice fits the run."""

import multiprocessing
import shlex

import pytest
from small_runs import drain, small

import fastplast as fp
from fastplast.cli.main import run
from fastplast.config import TAKES_STRENGTH, ConfigError, Member
from fastplast.methods import METHODS, Method, register
from fastplast.runs.files import write_file
from fastplast.training.start import start

TINY = {"examples": 12, "tasks": 2, "epochs": 2, "batch_size": 6, "srank": "off", "widths": (5, 4, 4), "engine": "vmap"}


def forget() -> None:
    METHODS.pop("own", None)
    TAKES_STRENGTH.pop("own", None)


@pytest.mark.parametrize(
    "members",
    [
        {"method": "own", "strength": 0.5},
        {"seeds": 10, "member_list": (Member(1, 0.01, "own", 0.5), Member(1, 0.01, "none", 0.0))},
    ],
    ids=["one", "list"],
)
def test_a_run_with_a_method_of_ones_own_has_a_status_and_resuming_asks_for_it(members, tmp_path, capsys):
    register("own", Method(lambda init, layout: init / 2, False, "", ""))
    try:
        _, events = start(small(tmp_path / "r", **TINY | members))
        drain(events, 1)
        events.close()
    finally:
        forget()
    assert run(["status", str(tmp_path / "r")]) == 0
    assert "2 members" in capsys.readouterr().out
    assert run(["resume", str(tmp_path / "r"), "--quiet"]) == 2
    assert "Call fastplast.methods.register('own', ...) first" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["plain", "with space", "quote'd"])
def test_the_plot_that_is_suggested_runs_as_pasted(name, tmp_path, capsys):
    options = "--seeds 2 --tasks 2 --epochs 1 --examples 12 --batch-size 6 --widths 5,4,4 --engine vmap --srank off"
    words = ["train", *shlex.split(options)]
    assert run([*words, "--out", str(tmp_path / name)]) == 0
    command = capsys.readouterr().out.strip().rpartition("Figure: fastplast ")[2]
    assert run([*shlex.split(command), "--formats", "svg"]) == 0
    assert (tmp_path / name / "figures" / "error.svg").exists()


def test_nobody_is_told_to_resume_a_finished_run(tmp_path, monkeypatch):
    finished = fp.train(small(tmp_path / "r", **TINY))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.replace", refuse)
    for path in (finished.path / "report.html", finished.path / "figures" / "a.svg"):
        with pytest.raises(OSError, match=r"correct the permissions, or choose another place with `--out`\.$"):
            write_file(path, b"x")
    with pytest.raises(OSError, match=r"It is as it was before\. Make room or correct the permissions, or choose"):
        write_file(tmp_path / "elsewhere", b"x")
    env = finished.path / "env.json"
    env.write_text(env.read_text().replace('"finished": true', '"finished": false'))
    with pytest.raises(
        OSError, match=r"checkpoint included, is intact\. .* the run then continues with `fastplast resume`"
    ):
        write_file(finished.path / "metrics" / "a", b"x")


def train_in_child(path, threads, queue) -> None:
    try:
        queue.put(fp.train(small(path, **TINY | {"threads": threads})).is_finished)
    except ConfigError as error:
        queue.put(str(error))


@pytest.mark.parametrize(("threads", "expected"), [(1, True), (2, "--threads must be 1 in a process that was forked")])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_was_forked_after_training_trains_on_one_thread_or_says_so(threads, expected, tmp_path):
    fp.train(small(tmp_path / "parent", **TINY | {"threads": 2}))
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    child = fork.Process(target=train_in_child, args=(tmp_path / "child", threads, queue))
    child.start()
    try:
        found = queue.get(timeout=60)
    finally:
        child.kill()
        child.join()
    assert found is True if expected is True else found.startswith(expected)
