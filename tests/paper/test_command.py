"""``fastplast figure``: what it trains, shares and refuses."""

import pytest

from fastplast import data
from fastplast.cli.main import run
from fastplast.config import ConfigError
from fastplast.paper.make import draw_figure
from fastplast.paper.plans import plan_missing
from fastplast.paper.registry import FIGURES, figure_of
from fastplast.paper.studies import SCALES, STUDIES, Use
from fastplast.paper.uses import uses_of
from fastplast.sweeps import Sweep, expand, grid_of


@pytest.fixture
def tiny(monkeypatch):
    """The studies of figures 1 and 8, at a size that takes no time."""
    small = {"examples": 16, "epochs": 1, "widths": (4, 3), "tasks": 1, "seeds": 2, "threads": 1, "engine": "vmap"}
    for name in ("activations-mnist_shuffle", "budget-mnist_shuffle"):
        more = {"epochs": (2, 3)} if name.startswith("budget") else {"learning_rate": 1e-3}
        more |= {"activation": ("relu",) if name.startswith("budget") else ("relu", "identity")}
        for key, value in (small | more).items():
            monkeypatch.setitem(STUDIES[name].smoke, key, value)


def test_a_figure_trains_its_runs_once_and_shares_them(tmp_path, monkeypatch, capsys, tiny):
    monkeypatch.chdir(tmp_path)
    assert run(["figure", "8", "--scale", "smoke", "--quiet", "--formats", "png"]) == 0
    files = capsys.readouterr().out.split()
    assert files == [f"runs/budget-mnist_shuffle-smoke/figures/figure-08.{ending}" for ending in ("png", "txt")]
    shared = Sweep("runs/activations-mnist_shuffle-smoke")
    assert set(shared.metrics()["activation"]) == {"relu", "leaky_relu", "tanh"}
    assert shared.metrics()["data_source"].unique().tolist() == ["embedded"]
    shards = {path.path for path in shared.shards}
    assert list(plan_missing(figure_of(8), "smoke")) == []  # the same runs

    (plan,) = plan_missing(figure_of(1), "smoke")  # needs more of them
    assert plan.finished == 2
    assert run(["figure", "1", "--scale", "smoke", "--quiet", "--formats", "png", "--out", "drawn"]) == 0
    assert (tmp_path / "drawn" / "figure-01.png").read_bytes().startswith(b"\x89PNG")
    assert shards < {path.path for path in Sweep("runs/activations-mnist_shuffle-smoke").shards}


def test_all_figures_of_the_paper_come_out_at_the_smallest_scale(tmp_path, monkeypatch, capsys):
    """Every run that they need is trained, once: nothing of it is made up."""
    monkeypatch.chdir(tmp_path)
    for number in range(1, 28):
        assert run(["figure", str(number), "--scale", "smoke", "--quiet", "--formats", "png", "--out", "drawn"]) == 0
        picture = (tmp_path / "drawn" / f"figure-{number:02}.png").read_bytes()
        assert picture.startswith(b"\x89PNG"), number
    assert list(plan_missing(figure_of(27), "smoke")) == []
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {
        f"{use.study}-smoke" for number in range(1, 28) for use in uses_of(figure_of(number), "smoke")
    }


def test_dry_run_says_what_would_run_and_writes_nothing(tmp_path, monkeypatch, capsys, tiny):
    monkeypatch.chdir(tmp_path)
    assert run(["figure", "1", "--scale", "smoke", "--dry-run"]) == 0
    text = capsys.readouterr().out
    assert "figure 1 (section 3): label-shuffled MNIST: error, and" in text
    assert "runs/activations-mnist_shuffle-smoke" in text
    assert "members     " in text
    assert list(tmp_path.iterdir()) == []


def test_a_figure_is_not_drawn_from_half_of_its_runs(tmp_path):
    with pytest.raises(ConfigError, match=r"figure 1 needs every member of .*-tenth: some are not"):
        draw_figure(figure_of(1), scale="tenth", runs=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["28"], "figure must be 1 to 27 or a name: got 28."),
        (["consistancy"], "figure must be 1 to 27 or a name: got consistancy. Did you mean 'consistency'?"),
        ([], "figure needs a number or a name: got none."),
        (["1", "--where", "activation"], "--where must be KEY=VALUE: got 'activation'."),
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
    seen = set()
    for use in (use for figure in FIGURES.values() for use in uses_of(figure, "tenth")):
        if (key := (use.study, str(use.only))) in seen:
            continue
        seen.add(key)
        for scale in ("tenth", "smoke"):
            part, whole = ({(c.group, c.member) for c in expand(grid_of(u.grid(scale)))} for u in (use, Use(use.study)))
            assert part <= whole, use


def test_pairs_are_of_the_richest_images_on_the_machine(tmp_path, monkeypatch):
    def study(scale="paper"):
        return uses_of(figure_of(19), scale)[0].study

    monkeypatch.setenv("FASTPLAST_DATA", str(tmp_path))
    assert study() == "pairs_activations-cifar10"  # the images of the package
    (tmp_path / "mnist").mkdir()
    for part in ("images-idx3", "labels-idx1"):
        (tmp_path / "mnist" / f"train-{part}-ubyte.gz").touch()
    assert study() == "pairs_activations-mnist"
    (tmp_path / "imagenet32").mkdir()
    assert study() == "pairs_activations-imagenet32"
    assert study("smoke") == "pairs_activations-cifar10"


def test_continual_imagenet_has_the_settings_of_appendix_b4():
    settings = {"batch_size": 100, "epochs": 200, "learning_rate": 1e-3, "dataset": "imagenet32"}
    for name, own in {
        "activations": {}, "layer_norm": {"layer_norm": True}, "dropout": {"dropout": 0.5},
        "head_reset": {"head_reset": "reinit"}, "regularisers": {"strength": [0.01]},
    }.items():  # fmt: skip
        study = STUDIES[f"pairs_{name}-imagenet32"]
        grid = Use(f"pairs_{name}-imagenet32").grid("paper")
        assert {key: grid[key] for key in settings | own} == settings | own
        assert study.seeds[0] == 20
        cell = expand(grid_of(grid))[0]
        assert (cell.group.optimizer, cell.group.network) == ("adam", "convnet")


def test_strengths_are_the_papers_and_one_of_ours():
    assert set(Use("regularisers-mnist_shuffle").grid("paper")["strength"]) == {1.0, 0.01, 0.001, 0.0001} | {0.1}
    assert "Strength 0.1 is not in the paper." in figure_of(16).choice


def test_the_list_has_every_figure_with_its_members_and_time_and_reads_no_data(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("FASTPLAST_DATA", str(tmp_path))
    monkeypatch.setattr(data, "load", None)
    assert run(["figure", "--list"]) == 0
    text, said = capsys.readouterr()
    assert not said
    assert all(f"{name!s:11}  {figure.section:7}" in text for name, figure in FIGURES.items())
    assert "runs: budget-mnist_shuffle, activations-mnist_shuffle" in text
    assert "paper: 396 members, 6.3e+08 updates, about " in text  # 4 activations, 3 step sizes, 33 seeds
    assert "They are estimates" in text
    assert list(tmp_path.iterdir()) == []


def test_figures_of_the_smallest_scale_say_that_they_are_no_result(tmp_path, monkeypatch, tiny):
    monkeypatch.chdir(tmp_path)
    saved = []
    monkeypatch.setattr("fastplast.paper.make.save", lambda page, files: saved.append(page))
    assert run(["figure", "8", "--scale", "smoke", "--quiet"]) == 0
    texts = [text.get_text() for text in saved[0].texts]
    assert "smoke scale: no result" in texts
    reduced = "Reduced: examples 16 (paper: 1,280), epochs 2/3 (paper: 25/50/100/400), widths 4-3 (paper: 128-64-32)"
    assert reduced in " ".join(texts).replace("\n", " ")
    draw_figure(figure_of(8), ["runs/budget-mnist_shuffle-smoke"], out=tmp_path)
    assert "smoke scale: no result" not in [text.get_text() for text in saved[1].texts]
