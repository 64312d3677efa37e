// Mean error against a hyperparameter, and error against each explanation.
const J = columnOf.get("j");

function numericColumns() {
  return members.columns.map((column, i) => ({ ...column, i })).filter(({ kind, i }) => {
    const values = members.rows.map((row) => row[i]).filter((value) => value !== null);
    return kind === "hyperparameter" && values.every((value) => typeof value === "number") && new Set(values).size > 1;
  });
}

function grouped(rows, keys) {
  const groups = new Map();
  for (const row of rows) {
    const key = JSON.stringify(keys.map((i) => members.rows[row][i]));
    if (!groups.has(key)) groups.set(key, []);
    groups.get(key).push(row);
  }
  return groups;
}

function words(i, value) {
  const { key, label } = members.columns[i];
  if (key === "method" && value === "none") return "no method";
  return typeof value === "string" ? value : `${label} ${value === null ? "none" : format(value)}`;
}

function sensitivity() {
  const columns = numericColumns();
  if (J === undefined || !columns.length) return;
  document.getElementById("sensitivity").hidden = false;
  const preferred = ["strength", "learning_rate"].map((key) => columns.find((c) => c.key === key)).find(Boolean) || columns[0];
  const chosen = { x: preferred.i };
  document.getElementById("sensitivity-controls").append(
    selector("against", columns.map((c) => ({ value: String(c.i), text: c.label })), String(chosen.x), (value) => { chosen.x = Number(value); redraw(); })
  );
  const others = members.columns.map((c, i) => ({ ...c, i })).filter((c) => c.kind === "hyperparameter");

  function redraw() {
    const rows = members.rows.map((_, row) => row).filter((row) => state.kept[row] && !isDropped(row) && members.rows[row][J] !== null && members.rows[row][chosen.x] !== null);
    const keys = others.map((c) => c.i).filter((i) => i !== chosen.x);
    const all = [...grouped(members.rows.map((_, row) => row), keys).keys()]; // a group keeps its colour when others are filtered away
    const log = spansDecades(rows.map((row) => members.rows[row][chosen.x]));
    const traces = [], shown = [];
    const lines = [...grouped(rows, keys)].map(([key, own]) => ({ key, own, s: members.setting[own.find((row) => !state.hidden.has(members.setting[row]))] }));
    for (const { s } of lines) if (s !== undefined) shown.push(s); // a line goes through a setting that is shown
    const label = members.columns[chosen.x].label;
    const { layout, axes } = panelGrid(
      panelsOf(shown),
      (isLast, more) => axis(isLast ? plain(label) : "", { ...(log ? { type: "log", dtick: 1 } : {}), matches: "x", ...more }),
      (isFirst, more) => axis(isFirst ? "mean error at task end" : "", { rangemode: "tozero", matches: "y", ...more })
    );
    delete layout.xaxis.matches;
    delete layout.yaxis.matches;
    for (const { key, own, s } of lines) {
      if (s === undefined) continue;
      const parts = JSON.parse(key).map((value, k) => words(keys[k], value));
      const index = groupColour(keys, JSON.parse(key), all.indexOf(key));
      const style = others.length ? styleOf(s) : { color: colour(index), dash: dash(index) };
      const { xaxis, yaxis } = axes.get(settings[s].panel);
      traces.push(...line(own, log, parts.join(", ") || "all members", style, rows).map((trace) => ({ ...trace, xaxis, yaxis })));
    }
    const target = document.getElementById("sensitivity-chart");
    target.style.height = layout.height ? `${layout.height}px` : "";
    draw(target, traces, {
      ...layout,
      showlegend: traces.length > 0 && shown.length <= 24,
      legend: { orientation: "h", y: -0.25, yanchor: "top", x: 0, font: { size: 11 } },
    });
    document.getElementById("sensitivity-hint").textContent =
      "Dot: mean over members with these hyperparameters; bar: its 95% t interval." + (log && rows.some((row) => members.rows[row][chosen.x] === 0) ? ` Dashed: ${label} 0, which a logarithmic axis has no place for.` : "");
  }

  function line(own, log, label, style, rows) {
    const byX = [...grouped(own, [chosen.x]).values()].sort((a, b) => members.rows[a[0]][chosen.x] - members.rows[b[0]][chosen.x]);
    const points = byX.map((group) => ({ x: members.rows[group[0]][chosen.x], ...interval(group.map((row) => members.rows[row][J])) }));
    const shown = points.filter((p) => !(log && p.x <= 0));
    const zero = log ? points.filter((p) => p.x <= 0) : [];
    const name = plain(shorten(label, 60));
    const traces = shown.length ? [trace(shown, "lines+markers", style, name)] : [];
    if (zero.length) {
      const positive = rows.map((row) => members.rows[row][chosen.x]).filter((x) => x > 0);
      const ends = [positive.reduce((a, b) => Math.min(a, b)), positive.reduce((a, b) => Math.max(a, b))];
      traces.push(trace(ends.map((x) => ({ ...zero[0], x })), "lines", { color: style.color, dash: "dash" }, shown.length ? `${name}, 0` : name));
    }
    return traces;
  }

  function trace(points, mode, style, name) {
    const bars = mode !== "lines" && points.some((p) => Number.isFinite(p.half));
    return {
      x: points.map((p) => p.x), y: points.map((p) => p.mean), type: "scatter", mode, name, meta: name, line: { ...style, width: 2 }, marker: { color: style.color, size: 7 },
      error_y: bars ? { type: "data", array: points.map((p) => p.half || 0), color: style.color, thickness: 1 } : undefined,
      customdata: points.map((p) => p.n), hovertemplate: "%{meta}<br>%{x}: mean error %{y:.4~g} (n = %{customdata})<extra></extra>",
    };
  }

  drawers.push(redraw);
}

function spansDecades(values) {
  const positive = values.filter((x) => x > 0);
  return positive.length > 0 && !values.some((x) => x < 0) && Math.max(...positive) / Math.min(...positive) >= 10;
}

// A method, and an activation, has one colour in every chart in which nothing else tells groups apart.
function groupColour(keys, values, otherwise) {
  const place = keys.length === 1 ? (report.order[members.columns[keys[0]].key] || []).indexOf(values[0]) : -1;
  return place >= 0 ? place : otherwise;
}

// From a little below 0, so that dots at 0 are whole.
function errorRange(traces) {
  const most = traces.filter((t) => t.mode === "markers").flatMap((t) => t.y).reduce((a, b) => Math.max(a, b), 0) || 1;
  return [-0.04 * most, 1.06 * most];
}

const MOST_DOTS = 4000; // each is an element of the page

function scatter() {
  const names = Object.keys(report.explanations).filter((name) => metricNamed(name));
  if (!names.length || !metricNamed("error")?.at.end) return;
  document.getElementById("scatter").hidden = false;
  const chosen = { name: names[0] };
  document.getElementById("scatter-controls").append(
    selector("explanation", names.map((name) => ({ value: name, text: report.explanations[name].label })), chosen.name, (name) => { chosen.name = name; redraw(); })
  );
  const activation = members.columns.findIndex((column) => column.key === "activation");

  function redraw() {
    const lines = report.correlations.filter((entry) => entry.name === chosen.name);
    const at = metricNamed(chosen.name).at[lines[0].when];
    const error = metricNamed("error").at.end;
    const stride = Math.max(1, Math.ceil((curves.lines.length * curves.tasks.length) / MOST_DOTS));
    let dot = 0;
    const traces = lines.flatMap((entry, i) => {
      const group = `activation ${i}`; // not its name: Plotly keeps groups as keys of an object
      const rows = curves.lines.filter((row) => state.kept[row] && !isDropped(row) && (activation < 0 || lines.length === 1 || members.rows[row][activation] === entry.activation));
      if (!rows.length) return [];
      const x = [], y = [], text = [];
      for (const row of rows) {
        const [u, v] = [rowOf(at.members, lineOf.get(row)), rowOf(error.members, lineOf.get(row))];
        curves.tasks.forEach((task, k) => {
          if (Number.isFinite(u[k]) && Number.isFinite(v[k]) && dot++ % stride === 0) { x.push(u[k]); y.push(v[k]); text.push(`${plain(memberName(row))}, task ${task}`); }
        });
      }
      const color = colour(entry.colour);
      const name = plain(shorten(entry.activation, 40));
      return [
        { x, y, text, type: "scatter", mode: "markers", name, legendgroup: group, marker: { color, size: 4, opacity: 0.45 }, hovertemplate: "%{text}<br>%{x:.4~g}: error %{y:.4~g}<extra></extra>" },
        { x: [entry.least, entry.most], y: [entry.least, entry.most].map((u) => entry.intercept + entry.slope * u), type: "scatter", mode: "lines", name: `${name}, line`, legendgroup: group, showlegend: false, hoverinfo: "skip", line: { color, width: 2.5 } },
      ];
    });
    const { label, unit } = report.explanations[chosen.name];
    draw("scatter-chart", traces, {
      xaxis: axis(`${plain(label)} at task ${lines[0].when}${unit ? ` (${plain(unit)})` : ""}`),
      yaxis: axis("error at the end of the same task", { range: errorRange(traces) }),
      showlegend: lines.length > 1,
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    });
    document.getElementById("scatter-hint").textContent =
      `Dot: a member in a task${curves.lines.length < members.rows.length ? ", of the members whose curves are in the file" : ""}${stride > 1 ? `, one in ${stride} drawn` : ""}; line: least squares over all members, filtered or not, as in the table.`;
  }

  drawers.push(redraw);
}
