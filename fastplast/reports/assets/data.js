// What the page shows: the data of the report, and which of it is chosen.
const report = JSON.parse(document.getElementById("data").textContent);
const { curves, members, settings } = report;

const rowsOf = settings.map(() => []);
members.setting.forEach((s, row) => rowsOf[s].push(row));
const lineOf = new Map(curves.lines.map((row, i) => [row, i])); // members whose curves are in the file
const placeOf = new Map(curves.settings.map((s, i) => [s, i])); // settings whose curves are in the file
const columnOf = new Map(members.columns.map((column, i) => [column.key, i]));

const others = settings.map((_, s) => s).filter((s) => !settings[s].is_first); // hidden until the reader wants them
const state = { kept: members.rows.map(() => true), hidden: new Set(others), picked: null };
const drawers = [];

function changed() {
  drawers.forEach((draw) => draw());
}

function keptOf(s) {
  return rowsOf[s].filter((row) => state.kept[row]);
}

function isShown(s) {
  return !state.hidden.has(s) && rowsOf[s].some((row) => state.kept[row]);
}

// Whether the reader hid a setting that is shown at first; what is hidden at first stays in charts that have room for all.
function isDropped(row) {
  const s = members.setting[row];
  return state.hidden.has(s) && settings[s].is_first;
}

// The inverse of packing.pack; remembered, because every redraw asks again.
const unpacked = new WeakMap();
function unpack(packed) {
  let values = unpacked.get(packed);
  if (!values) {
    const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    values = new Float64Array(bytes.length / 2);
    for (let i = 0; i < values.length; i++) {
      const code = view.getUint16(2 * i, true);
      const scaled = packed.low + packed.step * code;
      values[i] = code === 65535 ? NaN : !packed.log ? scaled : code === 65534 ? 0 : Math.exp(scaled);
    }
    unpacked.set(packed, values);
  }
  return values;
}

function rowOf(packed, i) {
  const width = packed.shape[packed.shape.length - 1];
  return unpack(packed).subarray(i * width, (i + 1) * width);
}

// Mean and half the width of Student's 95% interval, as fastplast.stats.mean_interval.
function interval(values) {
  const known = values.filter(Number.isFinite);
  const n = known.length;
  const mean = known.reduce((sum, x) => sum + x, 0) / n;
  const variance = known.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (n - 1);
  return { n, mean: n ? mean : NaN, half: n > 1 ? report.quantiles[n] * Math.sqrt(variance / n) : NaN };
}

// The ends of an interval m ± h where its metric can be, as fastplast.stats.within_range.
function withinRange(m, h, [least, most]) {
  const above = m - least;
  if (least === null || !(h > 0) || !(above > 0) || (most !== null && m >= most)) return [m - h, m + h];
  if (most === null) {
    const shift = h / (2 * Math.sqrt(above));
    return [-shift, shift].map((by) => least + Math.max(Math.sqrt(above) + by, 0) ** 2);
  }
  const p = above / (most - least);
  const shift = h / (2 * (most - least) * Math.sqrt(p * (1 - p)));
  const place = (by) => Math.min(Math.max(Math.asin(Math.sqrt(p)) + by, 0), Math.PI / 2);
  return [-shift, shift].map((by) => least + (most - least) * Math.sin(place(by)) ** 2);
}

// Text for Plotly, which reads a kind of HTML.
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

function shorten(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

function format(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  return Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6 ? value.toExponential(2) : String(+value.toPrecision(4));
}

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== false && value !== null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

let selectors = 0;
function selector(label, options, chosen, onchange) {
  const id = `select-${selectors++}`;
  const select = element("select", { id, change: () => onchange(select.value) });
  let parent = select;
  for (const { value, text, group } of options) {
    if (group !== undefined && group !== parent.label) {
      parent = element("optgroup", { label: group });
      select.append(parent);
    }
    parent.append(element("option", { value, selected: value === chosen }, text));
  }
  return element("span", { class: "pair" }, element("label", { for: id }, label), select);
}

function checkbox(label, checked, onchange) {
  const box = element("input", { type: "checkbox", checked, change: () => onchange(box.checked) });
  return element("label", {}, box, label);
}

let radioGroups = 0;
function radios(label, options, chosen, onchange) {
  const name = `choice-${radioGroups++}`;
  const inputs = options.map(({ value, text, disabled }) => {
    const input = element("input", { type: "radio", name, value, disabled: Boolean(disabled), checked: value === chosen, change: () => onchange(value) });
    return element("label", {}, input, text);
  });
  return element("fieldset", { "aria-label": label }, ...inputs);
}

function memberName(row) {
  const seed = columnOf.has("seed") ? `seed ${members.rows[row][columnOf.get("seed")]}` : `member ${row}`;
  return `${settings[members.setting[row]].label}, ${seed}`;
}
