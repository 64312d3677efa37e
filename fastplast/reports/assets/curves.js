// Metrics over tasks: a mean with its band for every setting, members on demand; and the legend of settings.
const ranks = "hessian_srank";

function metricNamed(name) {
  return curves.metrics.find((metric) => metric.name === name);
}

// Mean and half-width of the members of a setting that the table's filter keeps. Where their own curves are not in the
// file, those of the whole setting stand in, and `whole` says so.
function meanCurve(at, s, log) {
  const kept = keptOf(s);
  const place = placeOf.get(s);
  if (place === undefined || !kept.length) return null;
  const geometric = Boolean(log && at.log_mean); // mean and half are those of logarithms
  const back = geometric ? Math.exp : (x) => x;
  if (kept.length < rowsOf[s].length && kept.every((row) => lineOf.has(row))) {
    const lines = kept.map((row) => rowOf(at.members, lineOf.get(row)));
    const found = curves.tasks.map((_, k) => interval(lines.map((line) => (geometric ? Math.log(line[k]) : line[k]))));
    return { mean: found.map((f) => back(f.mean)), half: found.map((f) => f.half), n: kept.length, geometric, whole: false };
  }
  const none = curves.tasks.map(() => NaN);
  const [mean, half] = geometric ? [at.log_mean, at.log_half] : [at.mean, at.half];
  return {
    mean: Array.from(rowOf(mean, place), back),
    half: half && rowsOf[s].length > 1 ? Array.from(rowOf(half, place)) : none,
    n: rowsOf[s].length,
    geometric,
    whole: kept.length < rowsOf[s].length,
  };
}

function memberTrace(at, s, style, chart) {
  const x = [], y = [], names = [];
  for (const row of keptOf(s).filter((r) => lineOf.has(r))) {
    const line = rowOf(at.members, lineOf.get(row));
    const name = plain(memberName(row));
    curves.tasks.forEach((task, k) => {
      if (Number.isFinite(line[k]) && !(chart.log && line[k] <= 0)) { x.push(task + chart.shift(s)); y.push(line[k]); names.push(name); }
    });
    x.push(null); y.push(null); names.push("");
  }
  const single = curves.tasks.length === 1;
  return {
    x, y, text: names, type: "scatter", mode: single ? "markers" : "lines", connectgaps: false, opacity: 0.4, name: "members",
    line: { color: style.color, width: 0.8 }, marker: { color: style.color, size: 4 }, hovertemplate: "%{text}<br>task %{x}: %{y:.4~g}<extra></extra>",
  };
}

function settingTraces(at, metric, chart, s) {
  const found = meanCurve(at, s, chart.log);
  if (!found) return { traces: [], whole: false };
  const style = styleOf(s);
  const places = curves.tasks.map((_, k) => k).filter((k) => Number.isFinite(found.mean[k]) && !(chart.log && found.mean[k] <= 0));
  const x = places.map((k) => curves.tasks[k] + chart.shift(s));
  const mean = places.map((k) => found.mean[k]);
  const half = places.map((k) => (Number.isFinite(found.half[k]) ? found.half[k] : 0));
  const most = metric.ends[1] ?? Infinity;
  const geometricEnds = (m, h) => [m * Math.exp(-h), Math.min(m * Math.exp(h), Math.max(most, m))];
  const ends = mean.map((m, i) => (found.geometric ? geometricEnds(m, half[i]) : withinRange(m, half[i], metric.ends)));
  const low = ends.map(([end], i) => (chart.log && !found.geometric ? Math.max(end, mean[i] / 100) : end));
  const high = ends.map(([, end]) => end);
  const traces = [];
  if (chart.members) traces.push(memberTrace(at, s, style, chart));
  const single = curves.tasks.length === 1;
  if (!single && half.some((h) => h > 0)) {
    traces.push({
      x: [...x, ...x.slice().reverse()], y: [...high, ...low.slice().reverse()], type: "scatter", mode: "lines", fill: "toself",
      fillcolor: faded(style.color, Math.max(0.03, 0.2 / Math.max(1, chart.shown / 4))), line: { width: 0 }, hoverinfo: "skip", name: "band",
    });
  }
  const label = plain(shorten(settings[s].label, 90));
  traces.push({
    x, y: mean, type: "scatter", mode: x.length <= 12 ? "lines+markers" : "lines", name: label, meta: [label, `${found.n}`],
    customdata: mean.map((m, i) => (half[i] ? ` [${ends[i].map(format).join(", ")}]` : "")),
    line: { ...style, width: 2 }, marker: { color: style.color, size: single ? 8 : 4 },
    error_y: single && half.some((h) => h > 0) ? {
      type: "data", symmetric: false, array: high.map((end, i) => end - mean[i]), arrayminus: mean.map((m, i) => m - low[i]), color: style.color,
    } : undefined,
    hovertemplate: "%{meta[0]} (n = %{meta[1]})<br>task %{x}: %{y:.4~g}%{customdata}<extra></extra>",
  });
  const { xaxis, yaxis, marks } = chart.axes.get(settings[s].panel);
  const all = [...traces, ...boundTraces(metric, chart, s, style)].map((trace) => ({ ...trace, xaxis, yaxis }));
  return { traces: [...all, ...stopTraces(chart, s, style).map((trace) => ({ ...trace, xaxis, yaxis: marks }))], whole: found.whole };
}

// The certificate of a stable rank, where its ends differ.
function boundTraces(metric, chart, s, style) {
  if (metric.name !== ranks) return [];
  return ["lo", "hi"].flatMap((end) => {
    const bound = metricNamed(`${ranks}_${end}`)?.at[chart.when];
    const found = bound && meanCurve(bound, s, chart.log);
    if (!found) return [];
    return [{
      x: curves.tasks, y: found.mean, type: "scatter", mode: "lines", connectgaps: true, name: "certificate", line: { color: style.color, width: 1, dash: "1px,3px" },
      hovertemplate: `certified ${end === "lo" ? "lower" : "upper"} bound, mean<br>task %{x}: %{y:.4~g}<extra></extra>`,
    }];
  });
}

function stopTraces(chart, s, style) {
  const rows = keptOf(s).filter((row) => row in report.diverged);
  if (!rows.length) return [];
  return [{
    x: rows.map((row) => report.diverged[row]), y: rows.map((_, i) => 0.97 - 0.03 * (i % 5)), type: "scatter", mode: "markers",
    name: "diverged", text: rows.map((row) => plain(memberName(row))), marker: { symbol: "x", size: 7, color: style.color },
    hovertemplate: "%{text}<br>diverged in task %{x}<extra></extra>",
  }];
}

// All means and members, and as much of the bands as leaves them in sight: with two members a t interval is huge.
function range(traces, log) {
  const of = (wanted) => traces.filter((t) => wanted(t.name) && t.name !== "diverged").flatMap((t) => t.y.filter((v) => v !== null && Number.isFinite(v)));
  const scale = (values) => (log ? values.filter((v) => v > 0).map(Math.log10) : values);
  const lines = scale(of((name) => name !== "band"));
  const bands = scale(of((name) => name === "band"));
  if (!lines.length) return undefined;
  const least = (values, start) => values.reduce((a, b) => Math.min(a, b), start);
  const most = (values, start) => values.reduce((a, b) => Math.max(a, b), start);
  let low = least(lines, Infinity), high = most(lines, -Infinity);
  const room = 0.5 * (high - low) || 0.05 * Math.abs(high) || 0.5;
  const floor = low >= 0 && !log ? 0 : -Infinity;
  [low, high] = [Math.max(low - room, least(bands, low), floor), Math.min(high + room, most(bands, high))];
  const margin = 0.05 * (high - low) || room;
  return [low - margin, high + margin];
}

function curveChart(id, wanted) {
  const panel = document.getElementById(id);
  const metric = wanted.map(metricNamed).find(Boolean) || curves.metrics[0];
  if (!metric) {
    panel.append("Nothing is left to draw: no member has a value.");
    return;
  }
  const chart = { metric, when: timeOf(metric), log: false, members: curves.lines.length <= 12, shift: () => 0 };
  chart.log = wantsLog(chart);
  const controls = element("div", { class: "controls" });
  const target = element("div", { class: "chart", id: `${id}-chart`, role: "img" });
  panel.append(controls, target);

  function choose() {
    const options = curves.metrics.map((m) => ({ value: m.name, text: m.label, group: m.group }));
    const times = ["start", "end"].map((when) => ({ value: when, text: `task ${when}`, disabled: !chart.metric.at[when] }));
    controls.replaceChildren(
      selector("", options, chart.metric.name, (name) => {
        chart.metric = metricNamed(name);
        chart.when = timeOf(chart.metric);
        chart.log = wantsLog(chart);
        choose();
        controls.querySelector("select").focus({ preventScroll: true });
        redraw();
      }),
      radios("measured at", times, chart.when, (when) => { chart.when = when; redraw(); }),
      checkbox("log axis", chart.log, (on) => { chart.log = on; redraw(); }),
      checkbox("member lines", chart.members, (on) => { chart.members = on; redraw(); })
    );
    controls.querySelector("select").setAttribute("aria-label", "metric");
  }

  function redraw() {
    const { metric } = chart;
    const at = metric.at[chart.when];
    const shown = curves.settings.filter(isShown);
    chart.shown = shown.length;
    const beside = (s) => shown.filter((other) => settings[other].panel === settings[s].panel);
    chart.shift = (s) => (curves.tasks.length === 1 ? 0.5 * ((beside(s).indexOf(s) + 0.5) / beside(s).length - 0.5) : 0);
    const panels = panelsOf(shown);
    const [first, last] = [curves.tasks[0], curves.tasks[curves.tasks.length - 1]];
    const pad = 0.02 * (last - first) || 0.6;
    const unit = metric.unit ? `<br><sub>${plain(metric.unit)}</sub>` : "";
    const yTitle = `${plain(shorten(metric.label, panels.length > 2 ? 24 : 44))}${unit}`;
    const { layout, axes } = panelGrid(
      panels,
      (isLast, more) => axis(isLast ? "task (number, from 0)" : "", { range: [first - pad, last + pad], ...(last - first < 12 ? { dtick: panels.length > 1 && last - first > 5 ? 2 : 1 } : {}), ...more }),
      (isFirst, more) => axis(isFirst ? yTitle : "", more) // and a scale, the same of all panels, once the traces are known
    );
    chart.axes = axes;
    const parts = shown.map((s) => settingTraces(at, metric, chart, s));
    const traces = parts.flatMap((part) => part.traces);
    const picked = state.picked !== null && lineOf.has(state.picked) && state.kept[state.picked] ? rowOf(at.members, lineOf.get(state.picked)) : null;
    if (picked) {
      const { xaxis, yaxis } = chart.axes.get(settings[members.setting[state.picked]].panel) || chart.axes.get(panels[0]);
      traces.push({ xaxis, yaxis, x: curves.tasks, y: Array.from(picked), type: "scatter", mode: "lines", connectgaps: true, name: "picked", line: { color: printing ? "#000000" : css("last"), width: 2.5 },
        meta: plain(memberName(state.picked)), hovertemplate: "%{meta}<br>task %{x}: %{y:.4~g}<extra></extra>" });
    }
    const limits = range(traces, chart.log);
    const values = limits && chart.log ? limits.map((v) => 10 ** v) : [];
    const scale = { type: chart.log ? "log" : "linear", range: limits, ...(chart.log ? logTicks(values) : {}) };
    for (const { yaxis } of axes.values()) Object.assign(layout[yaxis.replace("y", "yaxis")], scale);
    if (!traces.length) layout.annotations.push({ text: "nothing left to draw", showarrow: false, x: 0.5, y: 0.5, xref: "paper", yref: "paper" });
    target.style.height = layout.height ? `${layout.height}px` : "";
    draw(target, traces, layout);
    target.setAttribute("aria-label", `${metric.label} at task ${chart.when}, over tasks`);
    chart.whole = parts.some((part) => part.whole);
    hint();
  }

  choose();
  drawers.push(redraw);
  charts.push(chart);
}

const charts = [];

function timeOf(metric) {
  return metric.at[metric.when] ? metric.when : Object.keys(metric.at)[0];
}

// What spans decades is kept as logarithms; a zero would fall off such an axis, so it must be absent.
function wantsLog(chart) {
  const { mean } = chart.metric.at[chart.when];
  return mean.log && !unpack(mean).includes(0);
}

function hint() {
  const words = [];
  if (rowsOf.some((rows) => rows.length > 1)) words.push("Line: mean over the members of a setting; band: its 95% interval, within what is possible. On a log axis both are those of logarithms, where all values are positive.");
  if (metricNamed(`${ranks}_lo`)) words.push("Dotted: certified bounds of the stable rank, where they differ.");
  if (Object.keys(report.diverged).length) words.push("×: a member diverged in this task, and is left out from it on.");
  if (curves.lines.length < members.rows.length) {
    words.push(`To bound the file, it holds the curves of ${curves.lines.length.toLocaleString("en")} of ${members.rows.length.toLocaleString("en")} members, evenly chosen in each setting; means and bands are over all of them.`);
  }
  if (curves.settings.length < settings.length) words.push(`Of ${settings.length.toLocaleString("en")} settings, it draws ${curves.settings.length}, evenly chosen. A report of fewer runs draws more.`);
  if (charts.some((chart) => chart.whole)) words.push("The filter keeps only a part of some settings; as the file lacks these members' own curves, means are still over the whole setting.");
  document.getElementById("curves-hint").textContent = words.join(" ");
}

function swatch(s) {
  const holder = element("span");
  const widths = { solid: "", dash: "7 4", dot: "2 3", dashdot: "7 3 2 3" };
  const style = styleOf(s);
  holder.innerHTML = `<svg width="26" height="10" aria-hidden="true"><line x1="1" x2="25" y1="5" y2="5" stroke="${style.color}" stroke-width="3" stroke-dasharray="${widths[style.dash]}"/></svg>`;
  return holder.firstChild;
}

function legend() {
  const box = document.getElementById("legend");
  const buttons = settings.map((setting, s) => element("button", {
    type: "button", "data-setting": String(s), title: setting.label,
    click: () => { if (!state.hidden.delete(s)) state.hidden.add(s); changed(); },
    dblclick: () => { state.hidden = new Set(settings.map((_, i) => i).filter((i) => i !== s)); changed(); },
  }));
  const all = element("button", { type: "button", id: "show-all", click: () => { state.hidden.clear(); changed(); } }, "show all");
  const best = element("button", { type: "button", id: "show-best", click: () => { state.hidden = new Set(others); changed(); } }, "best only");
  const firsts = settings.map((_, s) => s).filter((s) => settings[s].is_first);
  firsts.sort((a, b) => settings[a].panel - settings[b].panel);
  box.append(...firsts.map((s) => buttons[s]), all, best);
  if (others.length) {
    const more = element("details", {}, element("summary", {}, `${others.length.toLocaleString("en")} other settings`));
    more.append(element("div", { class: "legend" }, ...others.map((s) => buttons[s])));
    box.after(more);
  }
  function redraw() {
    settings.forEach((setting, s) => {
      const kept = keptOf(s).length;
      const counts = `n = ${kept < setting.n ? `${kept} of ${setting.n}` : setting.n}${setting.diverged ? `, ${setting.diverged} diverged ×` : ""}`;
      buttons[s].setAttribute("aria-pressed", String(!state.hidden.has(s)));
      buttons[s].disabled = !kept || !placeOf.has(s);
      buttons[s].replaceChildren(swatch(s), `${shorten(setting.label, 90)} (${counts})`);
    });
    all.hidden = !state.hidden.size;
    best.hidden = !others.length || (state.hidden.size === others.length && others.every((s) => state.hidden.has(s)));
  }
  if (settings.length > 1) document.getElementById("legend-hint").textContent = "Click a setting to hide or show it, double-click to see it alone. The table of members below filters all charts." + (others.length ? " Shown at first is the setting of least mean error of each colour and panel, chosen on the seeds that are shown, which flatters it." : "");
  drawers.push(redraw);
}
