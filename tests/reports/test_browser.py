"""The page in a browser: it draws, filters, sorts, answers, and asks nobody."""

import numpy as np
import pytest

from fastplast.stats import mean_interval, within_range

TRACES = """(name) => document.getElementById(name).data"""


def means(page, chart="first"):
    """Label to the values of its mean line."""
    traces = page.evaluate(TRACES, f"{chart}-chart")
    return {
        t["meta"][0]: t["y"]
        for t in traces
        if t["name"] not in ("members", "band", "picked", "diverged", "certificate")
    }


def kinds(page, chart="first"):
    return {trace["name"] for trace in page.evaluate(TRACES, f"{chart}-chart")}


def test_curves_are_drawn_with_what_was_measured(make, show):
    run = make()
    page = show(run)
    frame = run.metrics()
    end = frame[frame["when"] == "end"].groupby(["activation", "task"])["error"].mean()
    found = means(page)
    assert set(found) == {"relu", "tanh"}
    for name, values in found.items():
        assert values == pytest.approx(end[name].tolist(), abs=2e-5)
    assert "band" in kinds(page)
    assert page.locator("#first-chart .scatterlayer .trace").count() >= 4
    assert set(means(page, "second")) == {"relu", "tanh"}


def test_the_metric_and_its_time_can_be_chosen(make, show):
    page = show(make())
    before = means(page)
    page.locator("#first").get_by_label("task start").check()
    start = means(page)
    assert start != before
    page.locator("#first select").select_option("dead_fraction")
    assert means(page) not in (before, start)
    assert page.locator("#first").get_by_label("task start").is_disabled()
    assert "Dead units" in page.locator("#first-chart").get_attribute("aria-label")
    groups = page.locator("#first select optgroup").evaluate_all("all => all.map(group => group.label)")
    assert groups == ["Error and loss", "Curvature", "Features"]


def test_a_legend_entry_hides_a_setting_and_a_double_click_leaves_it_alone(make, show):
    page = show(make())
    page.locator('[data-setting="0"]').click()
    assert set(means(page)) == set(means(page, "second")) == {"tanh"}
    assert page.locator('[data-setting="0"]').get_attribute("aria-pressed") == "false"
    page.locator("#show-all").click()
    assert set(means(page)) == {"relu", "tanh"}
    page.locator('[data-setting="0"]').dblclick()
    assert set(means(page)) == {"relu"}


def test_of_many_settings_one_of_each_method_is_drawn_in_the_panel_of_its_activation(make, show):
    settings = tuple(
        {"activation": activation, "method": method, "strength": strength}
        for activation in ("relu", "tanh") for method in ("l2", "redo") for strength in (1.0, 0.1, 0.01)
    )  # fmt: skip
    page = show(make(settings=settings))
    shown = set(means(page))
    assert len(shown) == 4
    axes = {(("relu" in t["meta"][0]), t["xaxis"]) for t in page.evaluate(TRACES, "first-chart") if "meta" in t}
    assert axes == {(True, "x"), (False, "x2")}
    assert page.locator("details summary", has_text="8 other settings").is_visible()
    assert len(page.evaluate(TRACES, "sensitivity-chart")) == 4  # lines over all strengths
    page.locator("#show-all").click()
    assert len(means(page)) == 12
    page.locator("#show-best").click()
    assert set(means(page)) == shown


def test_means_on_a_logarithmic_axis_are_those_of_logarithms(make, show):
    run = make()
    page = show(run)
    page.locator("#first").get_by_label("log axis").check()
    own = run.metrics().query("when == 'end' and activation == 'tanh'")
    found = mean_interval(np.log(own.pivot(index="member", columns="task", values="error").to_numpy()))
    assert means(page)["tanh"] == pytest.approx(np.exp(found.estimate).tolist(), rel=1e-3)
    bands = [trace["y"] for trace in page.evaluate(TRACES, "first-chart") if trace["name"] == "band"]
    high = np.minimum(np.exp(found.high), 1.0)
    assert bands[1] == pytest.approx([*high, *np.exp(found.low)[::-1]], rel=1e-3)


def test_filtering_members_filters_the_curves_and_their_means(make, show):
    run = make()
    page = show(run)
    page.get_by_label("seed").select_option(label="2")
    assert page.locator("#members-table tbody tr").count() == 2
    frame = run.metrics()
    own = frame[(frame["when"] == "end") & (frame["seed"] == 2) & (frame["activation"] == "tanh")]["error"]
    assert means(page)["tanh"] == pytest.approx(own.tolist(), abs=2e-5)
    assert "n = 1 of 3" in page.locator('[data-setting="0"]').inner_text()
    page.get_by_label("filter members by text").fill("relu")
    assert set(means(page)) == {"relu"}
    assert page.locator('[data-setting="1"]').is_disabled()
    page.locator("#clear-filter").click()
    assert page.locator("#members-table tbody tr").count() == 6


def test_a_filter_that_leaves_nobody_is_no_error(make, show):
    page = show(make())
    page.get_by_label("filter members by text").fill("no such member")
    assert page.locator("#members-table tbody tr").count() == 0
    assert "nothing left to draw" in page.locator("#first-chart").text_content()


def test_the_mean_of_a_part_of_a_setting_has_students_interval(make, show):
    run = make(seeds=12, settings=({"activation": "relu"},))
    page = show(run)
    for text in "0123456789":  # some of them leave a part
        page.get_by_label("filter members by text").fill(text)
        rows = page.locator("#members-table tbody tr").evaluate_all("all => all.map(row => Number(row.dataset.row))")
        if 2 <= len(rows) < 12:
            break
    assert 2 <= len(rows) < 12
    frame = run.metrics()
    values = frame[frame["when"] == "end"].pivot(index="seed", columns="task", values="error").to_numpy()
    expected = within_range(mean_interval(values[rows]), 0, 1)
    band = next(trace for trace in page.evaluate(TRACES, "first-chart") if trace["name"] == "band")
    np.testing.assert_allclose(band["y"], [*expected.high, *expected.low[::-1]], atol=1e-4)
    assert means(page)["all members"] == pytest.approx(expected.estimate.tolist(), abs=2e-5)


def test_a_click_on_a_heading_sorts(make, show):
    page = show(make())
    heading = page.locator("#members-table th button", has_text="mean error")
    column = 4

    def values():
        cells = page.locator(f"#members-table tbody td:nth-child({column})").all_inner_texts()
        return [float(text) for text in cells]

    heading.click()
    assert values() == sorted(values())
    heading.click()
    assert values() == sorted(values(), reverse=True)
    assert page.locator("#members-table th").nth(column - 1).get_attribute("aria-sort") == "descending"


def test_hovering_says_whose_mean_in_which_task(make, show):
    page = show(make(settings=({"activation": "relu"},)))
    page.locator("#first-chart").scroll_into_view_if_needed()
    box = page.locator("#first-chart .nsewdrag").first.bounding_box()
    point = page.locator("#first-chart .scatterlayer .points path").nth(1).bounding_box()
    assert box
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.move(point["x"] + point["width"] / 2, point["y"] + point["height"] / 2, steps=4)
    label = page.locator("#first-chart .hoverlayer .hovertext")
    label.wait_for()
    assert "all members (n = 3)" in label.text_content()
    assert "task 1" in label.text_content()


def test_members_are_drawn_on_demand_and_a_row_draws_its_member(make, show):
    page = show(make(seeds=8))
    assert "members" not in kinds(page)
    page.locator("#first").get_by_label("member lines").check()
    assert "members" in kinds(page)
    page.locator("#members-table tbody tr").nth(2).click()
    assert "picked" in kinds(page)


def test_divergence_and_certificates_are_drawn(make, show):
    page = show(make(diverge={1: 2}, loose=3))
    assert "diverged" in kinds(page)
    assert "certificate" in kinds(page, "second")
    assert "certified bounds" in page.locator("#curves-hint").inner_text()


def test_eigenvalues_are_drawn_for_a_chosen_member(make, show):
    page = show(make())
    assert {trace["name"] for trace in page.evaluate(TRACES, "spectra-chart")} == {f"task {k}" for k in range(4)}
    first = page.evaluate(TRACES, "spectra-chart")[0]["y"][0]
    page.locator("#spectra-controls select").select_option(label="tanh, seed 2")
    assert page.evaluate(TRACES, "spectra-chart")[0]["y"][0] == pytest.approx(6 * first, rel=1e-3)


def test_sensitivity_is_drawn_where_a_hyperparameter_varies(make, show):
    strengths = tuple({"method": "l2", "strength": s} for s in (1.0, 0.1, 0.01))
    run = make(settings=(*strengths, {"method": "none"}))
    page = show(run)
    traces = page.evaluate(TRACES, "sensitivity-chart")
    assert {trace["meta"] for trace in traces} == {"l2", "no method"}
    (line,) = [trace for trace in traces if trace["meta"] == "l2"]
    assert line["x"] == [0.01, 0.1, 1.0]
    frame = run.metrics()
    own = frame[(frame["when"] == "end") & (frame["strength"] == 0.1)]["error"].mean()
    assert line["y"][1] == pytest.approx(own)
    assert not show(make("same", seeds=2)).locator("#sensitivity").is_visible()


def test_no_button_sends_a_chart_away(make, show):
    page = show(make())
    titles = page.locator(".modebar-btn").evaluate_all("all => all.map(button => button.dataset.title)")
    assert titles
    assert not [title for title in titles if "loud" in title or "hare" in title]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(make, show, scheme):
    names = ("a_hyperparameter_with_a_name_as_long_as_a_line",)
    settings = tuple(
        {"learning_rate": 10**-k, names[0]: "x" * 80, "activation": a} for k in (2, 3) for a in ("relu", "tanh")
    )
    page = show(make("run-" + "y" * 90, settings=settings), width=390, height=844, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground.strip("rgb()").split(","))) < 200) == (scheme == "dark")
    assert page.locator("#first-chart .main-svg").first.bounding_box()["width"] <= 390


@pytest.mark.parametrize(
    "options",
    [
        {"srank": False},
        {"seeds": 1, "settings": ({},)},
        {"tasks": 1},
        {"tasks": 1, "seeds": 1, "settings": ({},), "srank": False},
        {"diverge": dict.fromkeys(range(6), 0)},
        {"drop": ("error", "online_error"), "srank": False},
        {"finished": False, "planned": 50},
    ],
    ids=["no srank", "one member", "one task", "one of each", "all diverged", "no error", "unfinished"],
)
def test_a_poor_run_has_a_readable_report(make, show, options):
    page = show(make(**options))
    assert page.locator("#members-table tbody tr").count() > 0
    if options.get("diverge"):
        assert "Nothing is left to draw" in page.locator("#first").inner_text()
        assert "6 of 6 members diverged" in page.locator(".note").inner_text()
    else:
        assert page.locator("#first-chart .infolayer").text_content()


def test_paper_is_light(make, show):
    page = show(make(), scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    font = page.evaluate("document.getElementById('first-chart').layout.font.color")
    assert font == "#000000"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("#members-controls").is_visible()
