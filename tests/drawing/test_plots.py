import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from fastplast.drawing import write_plot
from fastplast.runs.writer import RunWriter
from fastplast.stats import mean_interval, within_range

NONE = {"method": "none", "strength": 0.0}
L2 = {"method": "l2", "strength": 0.01}
WASSERSTEIN = {"method": "wasserstein", "strength": 0.1}


def errors(rows, tasks):
    return 0.1 + np.random.default_rng(0).random((rows, tasks)) / 2


@pytest.fixture
def make(tmp_path):
    def make(name="run", seeds=3, settings=(NONE,), tasks=6, first_seed=0, diverge=(), every=1, **shared):
        rows = [{**setting, "seed": first_seed + seed} for setting in settings for seed in range(seeds)]
        values, diverge = errors(len(rows), tasks), dict(diverge)
        shared = {"benchmark": "mnist_shuffle", "network": "mlp", "activation": "relu", "tasks": tasks} | shared
        with RunWriter.create(tmp_path / name, {}, "train") as writer:
            for task in range(tasks):
                steps = [diverge.get(m) for m in range(len(rows))]
                members = {"member": list(range(len(rows)))}
                members |= {key: [row[key] for row in rows] for key in rows[0]}
                members |= {key: [value] * len(rows) for key, value in shared.items()}
                for when in ("start", "end"):
                    frozen = [s is not None and task >= s + (when == "start") for s in steps]
                    measured = {"updates": [task] * len(rows), "diverged": frozen, "error": values[:, task]}
                    if when == "start":
                        measured["error"] = np.full(len(rows), 0.9)
                        if task % every == 0:
                            measured |= {
                                "hessian_srank": np.arange(len(rows)) + task,
                                "hessian_zero": [False] * len(rows),
                            }
                            measured["hessian_method"] = ["dense"] * len(rows)
                    writer.write_metrics(task, when, {**members, **measured})
            writer.finish()
        return writer.run

    return make


@pytest.fixture
def drawn(monkeypatch):
    """Draws without writing, and returns the figure, with `boxes` around everything that must not overlap."""

    def drawn(*args, **options):
        figures = []

        def capture(figure, *_, **__):
            figure.draw_without_rendering()
            figure.boxes = [axes.get_tightbbox() for axes in figure.axes]
            figure.boxes += [part.get_window_extent() for part in (*figure.legends, *figure.texts)]
            figures.append(figure)

        with monkeypatch.context() as patch:
            patch.setattr(Figure, "savefig", capture)
            write_plot(*args, formats=("png",), **options)
        return figures[0]

    return drawn


def means(axes):
    return [line for line in axes.lines if line.get_linewidth() == 1.5 and line.get_marker() != "x"]


def bands(axes):
    return [c for c in axes.collections if isinstance(c, PolyCollection) and not isinstance(c, LineCollection)]


def marks(axes):
    return [line.get_xdata().tolist() for line in axes.lines if line.get_marker() == "x" and len(line.get_xdata())]


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def words(figure):
    return " ".join(text.get_text() for text in figure.texts).replace("\xa0", " ").replace("\n", " ")


def test_figures_are_written_beside_the_run_and_are_what_their_name_says(make):
    run = make()
    paths = write_plot(run.path)
    assert paths == [run.path / "figures" / f"error-hessian_srank.{name}" for name in ("png", "pdf", "svg")]
    starts = [path.read_bytes()[:5] for path in paths]
    assert starts == [b"\x89PNG\r", b"%PDF-", b"<?xml"]


def test_the_same_run_makes_the_same_bytes(make):
    run = make(seeds=2)
    first = [path.read_bytes() for path in write_plot(run)]
    assert [path.read_bytes() for path in write_plot(run)] == first


def test_out_is_a_directory_or_a_file(make, tmp_path):
    run = make(seeds=1, tasks=2)
    (png,) = write_plot(run, "error@start", out=tmp_path / "new", formats=("png",))
    assert png == tmp_path / "new" / "error_start.png"
    assert write_plot([run], ["error"], out=tmp_path / "a.pdf") == [tmp_path / "a.pdf"]
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_plots_need_no_display_and_leave_pyplot_alone(make):
    run = make(seeds=1, tasks=2)
    code = (
        "import sys, fastplast.drawing; assert 'matplotlib' not in sys.modules; import matplotlib;"
        "matplotlib.rcParams['font.size'] = 31; before = dict(matplotlib.rcParams);"
        f"fastplast.drawing.write_plot({str(run.path)!r});"
        "assert dict(matplotlib.rcParams) == before; assert 'matplotlib.pyplot' not in sys.modules"
    )
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")} | {"MPLBACKEND": "tkagg"}
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("seeds", [2, 30])
def test_a_setting_is_drawn_as_mean_interval_and_members(make, drawn, seeds):
    error, srank = drawn(make(seeds=seeds)).axes
    expected = within_range(mean_interval(errors(seeds, 6)), 0, 1)
    (line,) = means(error)
    np.testing.assert_allclose(line.get_ydata(), expected.estimate)
    corners = bands(error)[0].get_paths()[0].vertices
    for task in range(6):
        ends = corners[corners[:, 0] == task, 1]
        np.testing.assert_allclose([ends.min(), ends.max()], [expected.low[task], expected.high[task]])
    (thin,) = [c for c in error.collections if isinstance(c, LineCollection)]
    np.testing.assert_allclose([s[:, 1] for s in thin.get_segments()], errors(seeds, 6))
    np.testing.assert_allclose(means(srank)[0].get_ydata(), np.arange(6) + (seeds - 1) / 2)
    low, high = error.get_ylim()
    assert low < errors(seeds, 6).min() < errors(seeds, 6).max() < high


def test_the_interval_of_two_members_does_not_push_them_together(make, drawn):
    axes = drawn(make(seeds=2), ["error"]).axes[0]
    values = errors(2, 6)
    assert (values.max() - values.min()) / np.diff(axes.get_ylim()) > 0.4


def test_one_member_is_a_line_without_a_band(make, drawn):
    figure = drawn(make(seeds=1))
    assert bands(figure.axes[0]) == []
    assert legend(figure) == ["member (n = 1)"]
    assert "interval" not in words(figure)


@pytest.mark.parametrize("seeds", [1, 30])
def test_one_task_is_a_dot_for_each_setting_side_by_side(make, drawn, seeds):
    figure = drawn(make(seeds=seeds, settings=(NONE, L2), tasks=1))
    axes = figure.axes[0]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [float(dot.get_xdata()[0]) for dot in dots] == [-0.125, 0.125]
    estimates = errors(2 * seeds, 1).reshape(2, seeds).mean(1)
    np.testing.assert_allclose([dot.get_ydata()[0] for dot in dots], estimates)
    assert axes.get_xticks().tolist() == [0]
    assert ("bar: its 95% interval, within what is possible" in words(figure)) == (seeds > 1)


def test_axes_name_the_metric_its_time_and_its_unit(make, drawn):
    figure = drawn(make(), ["error", "error@start", "hessian_srank"])
    labels = [axes.get_ylabel().replace("\n", " ") for axes in figure.axes]
    assert labels == [
        "error at task end (misclassified fraction)",
        "error at task start (misclassified fraction)",
        "Hessian stable rank at task start (directions)",
    ]
    assert {axes.get_xlabel() for axes in figure.axes} == {"task (number, from 0)"}
    assert (means(figure.axes[1])[0].get_ydata() == 0.9).all()


def test_title_and_caption_say_what_and_from_where(make, drawn):
    text = words(drawn(make("first", weight_decay=0.5)))
    assert "mnist_shuffle  ·  mlp  ·  relu  ·  3 members" in text
    assert "band: its 95% interval, within what is possible" in text
    assert "Data: first (fastplast " in text
    assert "Settings: weight decay 0.5, seeds 0 to 2; all others at their defaults." in text


def test_labels_name_only_what_varies(make, drawn):
    settings = [{**s, "learning_rate": rate, "beta1": 0.9} for s in (NONE, L2) for rate in (0.01, 1e-3)]
    assert legend(drawn(make(settings=settings))) == [
        "no method, learning rate 0.001 (n = 3)",
        "no method, learning rate 0.01 (n = 3)",
        "l2, strength 0.01, learning rate 0.001 (n = 3)",
        "l2, strength 0.01, learning rate 0.01 (n = 3)",
    ]


def test_runs_are_compared_by_what_differs_between_them(make, drawn):
    runs = [make("a", activation="tanh"), make("b", seeds=2, tasks=3)]
    figure = drawn(runs)
    assert legend(figure) == ["relu (n = 2)", "tanh (n = 3)"]
    assert [len(line.get_xdata()[np.isfinite(line.get_ydata())]) for line in means(figure.axes[0])] == [3, 6]
    assert "relu, tanh  ·  5 members" in words(figure)


def test_runs_that_share_seeds_are_told_apart_and_others_pooled(make, drawn):
    first = make("first")
    assert legend(drawn([first, make("again", engine="vmap")])) == ["first (n = 3)", "again (n = 3)"]
    assert legend(drawn([first, make("more", first_seed=3)])) == ["mean (n = 6)"]


def test_a_method_keeps_its_colour_from_figure_to_figure(make, drawn):
    all_three = drawn(make("three", settings=(WASSERSTEIN, L2, NONE)))
    two = drawn([make("two", settings=(WASSERSTEIN,)), make("none")])
    colours = [{t.split(" (")[0]: to_hex(line.get_color()) for t, line in zip(legend(f), means(f.axes[0]))}
               for f in (all_three, two)]  # fmt: skip
    assert list(colours[0]) == ["no method", "l2, strength 0.01", "wasserstein, strength 0.1"]
    assert colours[1] == {name: colours[0][name] for name in ("no method", "wasserstein, strength 0.1")}
    assert len(set(colours[0].values())) == 3
    assert colours[0] == {t.split(" (")[0]: to_hex(line.get_color()) for t, line in
                          zip(legend(all_three), means(all_three.axes[1]))}  # fmt: skip


def test_diverged_members_are_marked_counted_and_left_out(make, drawn):
    figure = drawn(make(settings=(NONE, L2), diverge={0: 2, 1: 4}), ["error"])
    (axes,) = figure.axes
    assert legend(figure) == ["no method (n = 3, 2 diverged ×)", "l2, strength 0.01 (n = 3)"]
    assert marks(axes) == [[2, 4]]
    values = errors(6, 6)[:3]
    values[0, 2:] = values[1, 4:] = np.nan
    np.testing.assert_allclose(means(axes)[0].get_ydata(), np.nanmean(values, 0))
    assert "a member diverged in this task" in words(figure)


def test_a_run_in_which_every_member_diverged_can_still_be_drawn(make, drawn):
    figure = drawn(make(seeds=2, diverge={0: 0, 1: 0}), ["error"], log=["error"])
    assert [text.get_text() for text in figure.axes[0].texts] == ["no member left"]


def test_tasks_without_a_measurement_leave_no_gap(make, drawn):
    axes = drawn(make(every=3), ["hessian_srank"]).axes[0]
    assert means(axes)[0].get_xdata().tolist() == [0, 3]
    assert means(axes)[0].get_ydata().tolist() == [1, 4]


MANY = ["error", "hessian_srank", "error@start", "hessian_zero"]
LONG = {f"a_hyperparameter_with_a_long_name_{k}": 1.0 for k in range(3)}


@pytest.mark.parametrize(("settings", "columns", "more"), [(3, MANY, {}), (20, MANY, {}), (3, ["hessian_srank"], LONG)])
def test_settings_look_different_and_nothing_overlaps(make, drawn, settings, columns, more):
    grid = [{**NONE, "learning_rate": 10 ** -(k / 4), **{name: k for name in more}} for k in range(settings)]
    figure = drawn(make(settings=grid, network="module:SomebodysOwnNetwork"), columns)
    looks = {(line.get_color(), line.get_linestyle()) for line in means(figure.axes[0])}
    assert len(looks) == settings
    for i, box in enumerate(figure.boxes):
        assert not any(box.overlaps(other) for other in figure.boxes[:i])
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1


def test_a_log_axis_shows_every_positive_member(make, drawn):
    (axes,) = drawn(make(), ["error"], log=["error"]).axes
    assert axes.get_yscale() == "log"
    assert 0 < axes.get_ylim()[0] < errors(3, 6).min() < errors(3, 6).max() < axes.get_ylim()[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": ["eror"]}, r"columns must be metrics of the run: got 'eror'. Did you mean 'error'\?"),
        ({"columns": ["hessian_method"]}, r"got 'hessian_method'. .* Known: .*error, hessian_srank, hessian_zero"),
        ({"columns": ["hessian_srank@end"]}, r"'hessian_srank@end', which was not measured: .* has values at start\."),
        ({"columns": []}, r"columns must name at least one: got none"),
        ({"formats": ["gif"]}, r"formats must be known names: got 'gif'. .*Known: png, pdf, svg\."),
        ({"log": ["loss"]}, r"log must be among the columns drawn: got 'loss'"),
        ({"columns": ["hessian_zero"], "log": ["hessian_zero"]}, r"log needs positive values: got none in 'hessian_z"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_errors_that_say_what_to_do(make, arguments, message):
    run = make(seeds=1, tasks=1)
    with pytest.raises(ValueError, match=message):
        write_plot(run, **arguments)
    assert not (run.path / "figures").exists()


def test_no_run_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="runs must name at least one: got none"):
        write_plot([])
    with pytest.raises(FileNotFoundError, match="path must be a run directory"):
        write_plot(tmp_path)
