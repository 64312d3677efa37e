// Colours and layout that all charts share, light or dark as the reader's system is, light on paper.
const DASHES = ["solid", "dash", "dot", "dashdot"];
let printing = false;

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function isDark() {
  return !printing && matchMedia("(prefers-color-scheme: dark)").matches;
}

function isNarrow() {
  return document.documentElement.clientWidth < 760;
}

// The palette's last colour is black, which a dark page cannot show.
function colour(index) {
  const found = report.palette[index % report.palette.length];
  return found === "#000000" && isDark() ? "#f0f0f0" : found;
}

function dash(index) {
  return DASHES[Math.floor(index / report.palette.length) % DASHES.length];
}

function styleOf(s) {
  const { colour: index, dash: style } = settings[s];
  return { color: colour(index), dash: style === null ? dash(index) : DASHES[style % DASHES.length] };
}

// Panels in a grid, two side by side where there is room, with the same scales: layout for Plotly, and the axes of each.
function panelGrid(panels, xAxis, yAxis) {
  const wide = panels.length > 1 && !isNarrow() ? 2 : 1;
  const tall = Math.ceil(panels.length / wide);
  const [gapX, gapY] = [wide > 1 ? 0.04 : 0, tall > 1 ? 0.32 / (tall + 0.5) : 0];
  const [width, height] = [(1 - gapX * (wide - 1)) / wide, (1 - gapY * (tall - 1)) / tall];
  const layout = { annotations: [], ...(panels.length > 1 ? { margin: { l: 10, r: 12, t: 30, b: 10 } } : {}), height: tall > 1 ? 210 * tall + 60 : undefined };
  const axes = new Map();
  panels.forEach((panel, i) => {
    const [column, n] = [i % wide, i ? String(i + 1) : ""];
    const [left, top] = [column * (width + gapX), 1 - Math.floor(i / wide) * (height + gapY)];
    const [first, last] = [column === 0, i + wide >= panels.length];
    axes.set(panel, { xaxis: `x${n}`, yaxis: `y${n}`, marks: `y${101 + i}` });
    layout[`xaxis${n}`] = xAxis(last, { domain: [left, left + width], anchor: `y${n}` });
    layout[`yaxis${n}`] = yAxis(first, { domain: [Math.max(top - height, 0), top], anchor: `x${n}`, showticklabels: first });
    layout[`yaxis${101 + i}`] = { overlaying: `y${n}`, anchor: `x${n}`, range: [0, 1], visible: false, fixedrange: true };
    if (panels.length > 1) layout.annotations.push({ text: plain(shorten(report.panels[panel], 40)), showarrow: false, x: left + width / 2, y: top, xref: "paper", yref: "paper", yanchor: "bottom" });
  });
  return { layout, axes };
}

// The panels of some settings, in order.
function panelsOf(shown) {
  const found = report.panels.map((_, p) => p).filter((p) => shown.some((s) => settings[s].panel === p));
  return found.length ? found : [0];
}

function faded(hex, opacity) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
  return `rgba(${r},${g},${b},${opacity})`;
}

// Early tasks light, late ones dark (the other way round on a dark page): cividis, read without colour too.
const CIVIDIS = ["#00224e", "#35456c", "#666970", "#948e77", "#c8b866", "#fee838"];
function taskColour(share) {
  const place = (isDark() ? share : 1 - share) * (isDark() ? 0.75 : 0.8) + (isDark() ? 0.25 : 0);
  const x = place * (CIVIDIS.length - 1);
  const [a, b] = [CIVIDIS[Math.floor(x)], CIVIDIS[Math.ceil(x)]];
  const mixed = [1, 3, 5].map((i) => Math.round(parseInt(a.slice(i, i + 2), 16) * (1 - (x % 1)) + parseInt(b.slice(i, i + 2), 16) * (x % 1)));
  return `rgb(${mixed.join(",")})`;
}

function axis(title, more = {}) {
  const light = printing ? "#e6e8eb" : css("grid");
  return { title: { text: title, standoff: 8 }, gridcolor: light, linecolor: printing ? "#888888" : css("line"), zeroline: false, automargin: true, exponentformat: "power", ...more };
}

// A logarithmic axis of many decades labels powers of ten only.
function logTicks(values) {
  const positive = values.filter((v) => v > 0);
  if (!positive.length) return {};
  const decades = Math.log10(Math.max(...positive) / Math.min(...positive));
  return decades > 1.2 ? { dtick: Math.max(1, Math.ceil(decades / 6)) } : {};
}

function draw(id, traces, layout) {
  const text = printing ? "#000000" : css("text");
  const panel = printing ? "#ffffff" : css("panel");
  const touch = matchMedia("(pointer: coarse)").matches;
  Plotly.react(
    id,
    traces,
    {
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: text, size: 12, family: 'system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif' },
      hoverlabel: { bgcolor: panel, bordercolor: printing ? "#888888" : css("line"), font: { color: text }, align: "left" },
      margin: { l: 10, r: 12, t: 14, b: 10 },
      showlegend: false,
      hovermode: "closest",
      dragmode: touch ? false : "zoom", // a finger scrolls the page
      ...layout,
    },
    {
      responsive: true,
      displaylogo: false,
      displayModeBar: touch ? false : "hover",
      modeBarButtons: [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]], // named one by one: by default one uploads the chart
      showSendToCloud: false,
      plotlyServerURL: "",
    }
  );
}

function watchTheme() {
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  matchMedia("(max-width: 760px)").addEventListener("change", changed);
  addEventListener("beforeprint", () => { printing = true; changed(); });
  addEventListener("afterprint", () => { printing = false; changed(); });
}
