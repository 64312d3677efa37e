"""What the file says, read as text."""

import html
import re
import subprocess
import sys

import pytest

import fastplast as fp
from fastplast.cli.main import run as command
from fastplast.config import Experiment
from fastplast.reports import report
from fastplast.reports.page import as_script
from fastplast.runs.files import StoreError
from fastplast.runs.writer import RunWriter
from fastplast.stats import mean_interval, within_range
from fastplast.sweeps import Sweep


def words(path):
    """The page without its scripts."""
    return path.read_text().split('<script type="application/json"')[0]


def test_a_report_lies_beside_the_run_or_where_it_is_told_to(make, tmp_path, capsys):
    run = make()
    assert fp.report(run) == run.path / "report.html"
    assert command(["report", str(run.path), "--out", str(tmp_path / "new" / "a.html")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "new" / "a.html")
    assert (tmp_path / "new" / "a.html").read_bytes() == (run.path / "report.html").read_bytes()


def test_it_says_every_setting_version_command_and_note(make):
    run = make()
    text = words(report(run))
    for name in run.config:
        assert f"<td>{name}</td>" in text, name
    for name, version in run.env["versions"].items():
        assert f"{name} {version}" in text
    for fact in (
        "fastplast train --seeds 3",
        'data: {"source": "full"}',
        run.env["started"][:10],
        "2.0 min",
    ):
        assert fact in html.unescape(text), fact


def test_it_defines_every_metric_it_shows(make):
    text = words(report(make()))
    assert "least j such" not in text  # of what is not shown
    for name in ("error", "loss", "online_error", "dead_fraction", "hessian_srank"):
        assert f"<td>{name}</td>" in text
    assert "fraction of hidden units that are exactly zero on every example of the task" in text
    assert "not defined in the results" not in text


def test_a_finished_run_without_divergence_has_no_warning(make):
    text = words(report(make()))
    assert 'role="note"' not in text
    assert "No member diverged." in text


def test_an_unfinished_run_says_so_at_the_top(make):
    text = words(report(make(finished=False, planned=100)))
    assert text.index("1 of 1 run not finished") < text.index("<main>")
    assert "run (4 of 100 tasks)" in text


def test_divergences_say_member_task_and_update(make):
    text = words(report(make(diverge={4: 1})))
    assert "1 of 6 members diverged" in text
    assert "<td>tanh, seed 1 (member 4 of run)</td>" in text
    assert '<td class="number">1</td><td class="number">21</td>' in text


def test_the_table_of_members_has_what_varies_and_what_became_of_them(make, payload):
    run = make(settings=({"method": "l2", "strength": 0.1}, {"method": "none"}))
    table = payload(report(run))["members"]
    assert [column["key"] for column in table["columns"]] == [
        "member", "seed", "method", "strength", "j", "final", "first_srank", "last_srank",
    ]  # fmt: skip
    frame = run.metrics()
    end = frame[frame["when"] == "end"].pivot(index="member", columns="task", values="error")
    for member, seed, method, strength, j, final, *_ in table["rows"]:
        assert (seed, method, strength) == (member % 3, *(("l2", 0.1) if member < 3 else ("none", 0.0)))
        assert j == pytest.approx(end.loc[member].mean())
        assert final == end.loc[member, 3]


def test_colours_are_those_of_the_figures(make, payload):
    found = payload(report(make()))
    assert found["palette"][:3] == ["#0072B2", "#D55E00", "#009E73"]
    assert {s["label"]: s["colour"] for s in found["settings"]} == {"relu": 0, "tanh": 2}


def many():
    """16 settings: of two activations three methods, each with several strengths or step sizes."""
    return tuple(
        {"activation": activation, "method": method, "strength": strength, "learning_rate": rate}
        for activation in ("relu", "tanh")
        for method, strengths in (("none", (0.0,)), ("l2", (0.1, 0.01)), ("wasserstein", (0.1,)))
        for strength in strengths
        for rate in (1e-2, 1e-3)
    )


def test_of_many_settings_colours_are_methods_panels_are_activations_and_the_best_are_shown_first(make, payload):
    run = make(settings=many())
    found = payload(report(run))
    frame = run.metrics().query("when == 'end'")
    means = frame.groupby(["activation", "method", "strength", "learning_rate"])["error"].mean()
    best = {key: (*key, *means[key].idxmin()) for key in {key[:2] for key in means.index}}
    assert found["panels"] == ["relu", "tanh"]
    colours = {"no method": 0, "l2": 1, "wasserstein": 3}
    seen = []
    for setting in found["settings"]:
        words = setting["label"].split(", ")
        (activation,), (method,) = set(words) & {"relu", "tanh"}, set(words) & set(colours)
        numbers = {word.rpartition(" ")[0]: float(word.rpartition(" ")[2]) for word in {*words} - {activation, method}}
        chosen = (
            activation,
            method.replace("no method", "none"),
            numbers.get("strength", 0.0),
            numbers["learning rate"],
        )
        assert found["panels"][setting["panel"]] == activation
        assert setting["colour"] == colours[method]
        assert setting["is_first"] == (best[chosen[:2]] == chosen)
        seen.append((setting["panel"], setting["colour"], setting["dash"]))
    assert len(set(seen)) == len(seen) == 16  # no two lines of a panel look alike
    assert sum(setting["is_first"] for setting in found["settings"]) == 6


def test_the_same_results_make_the_same_bytes(make):
    run = make()
    assert report(run).read_bytes() == report(run).read_bytes()


def test_shards_of_a_sweep_are_one_report(make, tmp_path, payload):
    for activation in ("relu", "tanh"):
        config = Experiment(activation=activation, seeds=3, tasks=4).resolved().to_dict()
        make(f"sweep/shards/{activation}", settings=({"activation": activation},), config=config)
    RunWriter.create(tmp_path / "sweep/shards/waiting", config).close()
    path = report(tmp_path / "sweep")
    assert path == tmp_path / "sweep" / "report.html"
    assert "1 of 3 runs begun, nothing measured yet" in words(path)
    rows = payload(path)["members"]["rows"]
    assert [[*row[1:3], row[-1]] for row in rows] == [[i, a, a] for a in ("relu", "tanh") for i in range(3)]
    members = Sweep(tmp_path / "sweep").members
    assert {row[0]: (row[1], row[2]) for row in rows} == {
        key: (seed, activation) for key, seed, activation in zip(members.id, members.seed, members.activation)
    }
    assert members.id.is_unique


def test_the_file_names_no_address_to_load_from(make):
    text = report(make()).read_text()
    assert "default-src 'none'" in text
    assert "<link" not in text
    assert " src=" not in words(report(make("again")))


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<!--", "\u2028\u2029", "&lt;"])
def test_nothing_in_the_data_ends_its_element(text):
    script = as_script({text: [text, float("nan")]})
    assert not {"<", ">", "&", "\u2028", "\u2029"} & set(script)


def test_what_is_no_run_is_an_error(tmp_path, make):
    with pytest.raises(FileNotFoundError, match=r"path must be a run directory, with config\.json and env\.json: got"):
        report(tmp_path)
    with pytest.raises(ValueError, match="runs must name at least one: got none"):
        report([])
    RunWriter.create(tmp_path / "empty", {}).close()
    with pytest.raises(StoreError, match="holds no metrics yet: its first task has not been measured"):
        report(tmp_path / "empty")


def test_without_plotly_the_error_says_how_to_install_it(make, monkeypatch):
    run = make(seeds=1, tasks=1)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ImportError, match=r"needs the package plotly.*pip install 'fastplast\[report\]'"):
        report(run)
    assert not (run.path / "report.html").exists()


def test_plotly_and_pandas_are_imported_only_when_a_report_is_written():
    code = "import sys, fastplast.reports; print({'plotly', 'pandas', 'matplotlib'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"


def test_the_first_screen_ranks_settings_by_mean_error_with_the_best_marked(make):
    settings = tuple({"method": "l2", "strength": strength} for strength in (1.0, 0.1, 0.01))
    run = make(settings=settings, seeds=3, tasks=4, diverge={0: 1})
    text, metrics = words(report(run)), run.metrics()
    part = text.split('<section id="ranking">')[1].split("</section>")[0]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr><td.*?</tr>", part)]
    of_members = metrics[(metrics.when == "end") & (metrics.member != 0)].groupby(["strength", "member"]).error.mean()
    expected = {f"strength {strength:g}": within_range(mean_interval(own.to_numpy()), 0, 1)
                for strength, own in of_members.groupby("strength")}  # fmt: skip
    assert cells[-1][1] == "strength 1"  # a member of it diverged
    assert [row[5] for row in cells] == ["", "", "1"]
    assert [float(row[2]) for row in cells[:2]] == sorted(float(row[2]) for row in cells[:2])
    for number, (place, setting, mean, interval, n, _) in enumerate(cells, 1):
        found = expected[setting]
        assert (place, mean, n) == (str(number), f"{found.estimate:.4f}", str(found.n))
        assert interval == f"[{found.low:.4f}, {found.high:.4f}]"
    assert f"Best of 3 settings: <strong>{cells[0][1]}, {cells[0][2]} {cells[0][3]}, n = 3</strong>" in part
    assert text.index('<section id="ranking">') < text.index('<section id="curves">')


def test_contents_name_the_sections_that_there_are(make, tmp_path):
    for path in (report(make()), report(make("bare", drop=("error",)), tmp_path / "bare.html")):
        text = words(path)
        nav = text.split("<nav")[1].split("</nav>")[0]
        assert re.findall(r'href="#(\w+)"', nav) == re.findall(r'<section id="(\w+)"', text)
    assert 'id="ranking"' not in text


def test_one_setting_has_a_mean_error_and_no_table(make):
    part = words(report(make(settings=({},), seeds=2))).split('<section id="ranking">')[1].split("</section>")[0]
    assert re.search(r"<p>all members, 0\.\d{4} \[[01]\.\d{4}, [01]\.\d{4}\], n = 2\.", part)
    assert "<table>" not in part
