"""``fastplast figure``: what it trains, shares and refuses."""

import pytest

from fastplast.cli.main import run
from fastplast.config import ConfigError
from fastplast.paper import FIGURES, SCALES, STUDIES, Use, costs, draw_figure, figure_of, plan_missing, plans
from fastplast.sweeps import Sweep, expand, grid_of


@pytest.fixture
def tiny(monkeypatch):
    """The study of figure 10, at a size that takes no time."""
    small = {"examples": 16, "epochs": 1, "widths": (4, 3), "tasks": 1, "seeds": 2, "threads": 1, "engine": "vmap"}
    for name in ("activations-mnist_shuffle", "budget-mnist_shuffle"):
        more = {"epochs": (2, 3)} if name.startswith("budget") else {"activation": ("relu", "tanh")}
        for key, value in (small | more).items():
            monkeypatch.setitem(STUDIES[name].smoke, key, value)


def test_a_figure_trains_its_runs_once_and_shares_them(tmp_path, monkeypatch, capsys, tiny):
    monkeypatch.chdir(tmp_path)
    assert run(["figure", "10", "--scale", "smoke", "--quiet", "--formats", "png"]) == 0
    files = capsys.readouterr().out.split()
    assert files == ["runs/budget-mnist_shuffle-smoke/figures/figure-10.png"]
    shared = Sweep("runs/activations-mnist_shuffle-smoke")
    assert set(shared.metrics()["activation"]) == {"relu"}
    assert shared.metrics()["data_source"].unique().tolist() == ["embedded"]
    shards = {path.path for path in shared.shards}
    assert list(plan_missing(figure_of(11), "smoke")) == []  # the same runs

    (plan,) = plan_missing(figure_of(1), "smoke")  # needs more of them
    assert plan.finished == 2
    assert run(["figure", "1", "--scale", "smoke", "--quiet", "--formats", "png", "--out", "drawn"]) == 0
    assert (tmp_path / "drawn" / "figure-01.png").read_bytes().startswith(b"\x89PNG")
    assert shards < {path.path for path in Sweep("runs/activations-mnist_shuffle-smoke").shards}


def test_dry_run_says_what_would_run_and_writes_nothing(tmp_path, monkeypatch, capsys, tiny):
    monkeypatch.chdir(tmp_path)
    assert run(["figure", "1", "--scale", "smoke", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "figure 1 (section 3): task-end error over tasks" in text
    assert "runs/activations-mnist_shuffle-smoke" in text
    assert "members     " in text
    assert list(tmp_path.iterdir()) == []


def test_a_figure_is_not_drawn_from_half_of_its_runs(tmp_path):
    with pytest.raises(ConfigError, match=r"figure 1 needs every member of .*-tenth: some are not"):
        draw_figure(figure_of(1), scale="tenth", runs=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["28"], "figure must be 1 to 27: got 28."),
        ([], "figure needs a number: got none."),
        (["1", "--scale", "huge"], "--scale must be a known name: got 'huge'."),
    ],
)
def test_wrong_usage_is_said(capsys, arguments, message):
    assert run(["figure", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_empty_directory_is_no_result(tmp_path, capsys):
    assert run(["figure", "1", "--from", str(tmp_path)]) == 1
    assert "path must be a run directory" in capsys.readouterr().err


def updates(use, scale):
    cells = expand(grid_of(use.grid(scale)))
    return sum(cell.group.tasks * cell.group.epochs * cell.group.steps_per_epoch() for cell in cells)


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_can_be_run_at_every_scale(study):
    use = Use(study)
    for scale in SCALES:
        assert expand(grid_of(use.grid(scale)))
    paper, tenth = (use.grid(scale) for scale in SCALES[:2])
    assert paper.get("epochs") == tenth.get("epochs")  # never fewer updates a task
    assert 0.07 < updates(use, "tenth") / updates(use, "paper") < 0.13


def test_what_a_figure_needs_of_a_study_is_a_part_of_it():
    for figure in FIGURES.values():
        for use in (*figure.uses, *figure.alternative):
            for scale in ("tenth", "smoke"):
                part, whole = (
                    {(c.group, c.member) for c in expand(grid_of(u.grid(scale)))} for u in (use, Use(use.study))
                )
                assert part <= whole, (figure.number, use)


def test_without_imagenet_the_protocol_runs_on_cifar(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTPLAST_DATA", str(tmp_path))
    assert [use.study for use in plans.uses_of(figure_of(22), "paper")] == ["activations-class_pairs_cifar10"]
    (tmp_path / "imagenet32").mkdir()
    assert [use.study for use in plans.uses_of(figure_of(22), "paper")] == ["activations-continual_imagenet"]
    assert [use.study for use in plans.uses_of(figure_of(22), "smoke")] == ["activations-class_pairs_cifar10"]


def test_the_list_has_every_figure_with_its_members_and_time(monkeypatch, capsys):
    timed = []
    monkeypatch.setattr(costs, "_update_seconds", lambda experiment, method: 1e-4)
    monkeypatch.setattr(costs, "_measure_seconds", lambda e: timed.append((e.dataset, e.network, e.examples)) or 1e-2)
    assert run(["figure", "--list"]) == 0
    text, announced = capsys.readouterr()
    assert len(timed) == len(set(timed))  # whatever the method
    assert "measuring: mlp on mnist, 1,280 examples, method none" in announced
    assert all(f"{number:3}  {figure.section:7}" in text for number, figure in FIGURES.items())
    assert "runs: budget-mnist_shuffle, activations-mnist_shuffle" in text
    assert "paper: 396 members, 6.3e+08 updates, about " in text  # 4 activations, 3 step sizes, 33 seeds
    assert "they are estimates" in text
