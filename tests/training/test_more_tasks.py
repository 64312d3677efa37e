"""A longer run continues a shorter one: the results are those of one that was long from the start."""

import pytest
from small_runs import drain, small, table

import fastplast as fp
from fastplast.cli.main import run
from fastplast.config import ConfigError
from fastplast.training.start import proceed, start

CASES = {
    "plain": {"benchmark": "mnist_shuffle", "srank": "both"},
    "pairs": {"benchmark": "class_pairs", "dataset": "mnist", "network": "mlp", "examples": 60, "test_examples": 4,
              "batch_size": 10, "srank": "off", "head_reset": "reinit"},
    "hooks": {"benchmark": "mnist_permute", "method": "cbp", "options": {"cbp_rate": 0.05, "cbp_maturity": 1},
              "optimizer_reset": "moments", "srank": "off", "epoch_curves": True},
}  # fmt: skip


def files(path) -> dict[str, bytes]:
    """What is the same bit for bit: all but times, and which task a checkpoint was written after."""
    found = {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    return {n: data for n, data in found.items() if n.split("/")[0] in ("config.json", "metrics", "spectra", "epochs")}


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_goes_on_to_more_tasks_has_the_bits_of_one_that_had_them_from_the_start(name, tmp_path):
    values = CASES[name]
    long = fp.train(small(tmp_path / "long", **values, tasks=4))
    short = fp.train(small(tmp_path / "short", **values, tasks=2))
    assert fp.resume(short.path, tasks=4).is_finished
    assert files(short.path) == files(long.path)
    state = [next((path / "checkpoint").glob("state-*")).read_bytes() for path in (short.path, long.path)]
    assert state[0] == state[1]


def test_a_stopped_run_goes_on_to_more_tasks_and_one_killed_while_it_is_raised_is_whole(tmp_path, monkeypatch):
    long = fp.train(small(tmp_path / "long", tasks=3, srank="off"))
    asked = [False, True]
    _, events = start(small(tmp_path / "a", tasks=2, srank="off"), stop=lambda: asked.pop(0))
    drain(events)
    _, events = proceed(tmp_path / "a", tasks=3)
    events.close()  # type: ignore[attr-defined]
    assert fp.resume(tmp_path / "a").is_finished
    assert files(tmp_path / "a") == files(long.path)
    short = fp.train(small(tmp_path / "b", tasks=2, srank="off"))
    from fastplast.runs import writer

    write, written = writer.write_file, []

    def die(path, data):
        if path.name == "config.json":
            raise OSError("killed")
        written.append(path.name)
        write(path, data)

    monkeypatch.setattr(writer, "write_file", die)
    with pytest.raises(OSError, match="killed"):
        fp.resume(short.path, tasks=3)
    monkeypatch.setattr(writer, "write_file", write)
    assert written.count("env.json") == 2
    assert fp.resume(short.path).is_finished
    assert fp.resume(short.path, tasks=3).is_finished
    assert files(short.path) == files(long.path)


def test_tasks_are_raised_from_the_command_line_and_never_lowered(tmp_path, capsys):
    short = fp.train(small(tmp_path / "r", tasks=1, srank="off"))
    assert run(["resume", str(short.path), "--tasks", "2", "--quiet"]) == 0
    assert len(table(short.path)) == 2 * 2 * 2
    assert run(["resume", str(short.path), "--tasks", "1"]) == 2
    assert f"--tasks of a run can only be raised: got 1, {short.path} has 2." in capsys.readouterr().err
    with pytest.raises(ConfigError, match="can only be raised: got 0"):
        fp.resume(short.path, tasks=0)
