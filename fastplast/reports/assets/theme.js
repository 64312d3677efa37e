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
