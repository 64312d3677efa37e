"""Names and settings come from whoever made the results; on the page they are text."""

HOSTILE = (
    "</script><script>document.title='run'</script>",
    "<img src=x onerror=\"document.title='run'\">",
    "<!--<script>",
    "' onmouseover='document.title=1' x='",
    "{{data}}",
    "a\u2028b\u2029c",
    "%{meta[0]}<b>bold</b><a href='https://example.org/'>link</a>",
    "__proto__",
)


HOVER = """() => {
    const chart = document.getElementById('first-chart');
    Plotly.Fx.hover(chart, [{curveNumber: chart.data.findIndex(t => t.meta), pointNumber: 1}]);
}"""


def test_hostile_text_is_shown_and_does_nothing(make, show):
    """`show` fails too if the page requests, logs, or opens anything."""
    settings = tuple({"method": text, "activation": text} for text in HOSTILE)
    name = "run " + " ".join(HOSTILE[1:5]).replace("/", "_")
    config = {text: text for text in HOSTILE} | {"data_dir": list(HOSTILE)}
    page = show(make(name, settings=settings, seeds=2, config=config, note={t: t for t in HOSTILE}, diverge={0: 3}))
    assert page.title() == f"{name} · fastplast"
    page.locator("#members-table tbody tr").first.click()
    page.locator("#first").get_by_label("member lines").check()
    for s in range(len(HOSTILE)):
        page.locator(f'[data-setting="{s}"]').hover()
    for s, text in enumerate(sorted(HOSTILE)):  # as settings are
        page.locator(f'[data-setting="{s}"]').dblclick()
        page.evaluate(HOVER)
        label = page.locator("#first-chart .hovertext").first
        assert " ".join(text[:8].split()) in " ".join((label.text_content() or "").split())
        page.locator("#show-all").click()
    assert page.title() == f"{name} · fastplast"
    assert page.locator("script").count() == 3
    assert page.locator("img, iframe, object, embed, b, a[href^=http]").count() == 0
    legend = page.locator("#legend").inner_text()
    assert all(text.split("\u2028")[0] in legend for text in HOSTILE)
    settings = page.locator("#run details").inner_html()
    assert "&lt;img src=x onerror=" in settings
    assert page.locator(".hoverlayer a").count() == 0


def test_a_script_that_got_in_would_not_run(make, show):
    """The page's policy allows its own scripts by their digests and no other."""
    page = show(make(tasks=1))
    path = page.url.removeprefix("file://")
    with open(path) as file:
        text = file.read()
    with open(path, "w") as file:
        file.write(text.replace("<main>", "<main><script>document.title = 'run'</script>"))
    context = page.context.browser.new_context()
    try:
        again = context.new_page()
        again.goto(page.url)
        again.wait_for_selector("#members-table tbody tr")
        assert again.title() != "run"
    finally:
        context.close()
