// The table of members: sorted by any column, and filtered, which filters every chart.
const MOST_ROWS = 1000;

function memberTable() {
  const chosen = { text: "", values: new Map(), sort: null, descending: false };
  const controls = document.getElementById("members-controls");
  const table = document.getElementById("members-table");
  const search = element("input", { type: "search", placeholder: "any text", "aria-label": "filter members by text", input: () => { chosen.text = search.value.trim().toLowerCase(); filter(); } });

  function choices(i) {
    const values = [...new Set(members.rows.map((row) => row[i]))];
    return values.sort((a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : 1));
  }

  function filters() {
    const made = [element("label", {}, "filter", search)];
    members.columns.forEach((column, i) => {
      if (column.kind !== "hyperparameter" && column.key !== "seed" && column.key !== "part") return;
      const values = choices(i);
      if (values.length < 2 || values.length > 200) return;
      const options = [{ value: "", text: "all" }, ...values.map((value, v) => ({ value: String(v), text: value === null ? "none" : shorten(format(value), 60) }))];
      made.push(selector(column.label, options, "", (v) => {
        if (v === "") chosen.values.delete(i);
        else chosen.values.set(i, values[Number(v)]);
        filter();
      }));
    });
    made.push(element("button", { type: "button", id: "clear-filter", click: clear }, "clear"));
    controls.replaceChildren(...made);
  }

  function clear() {
    chosen.text = search.value = "";
    chosen.values.clear();
    filters();
    filter();
  }

  function filter() {
    state.kept = members.rows.map((row) => [...chosen.values].every(([i, value]) => row[i] === value) && (!chosen.text || row.some((value) => format(value).toLowerCase().includes(chosen.text))));
    changed();
  }

  function ordered() {
    const rows = members.rows.map((_, row) => row).filter((row) => state.kept[row]);
    if (chosen.sort === null) return rows;
    const sign = chosen.descending ? -1 : 1;
    return rows.sort((a, b) => {
      const [x, y] = [members.rows[a][chosen.sort], members.rows[b][chosen.sort]];
      if (x === null || y === null) return (x === null) - (y === null); // what has no value comes last, either way
      return sign * (x < y ? -1 : x > y ? 1 : 0) || a - b;
    });
  }

  function header() {
    return element("tr", {}, ...members.columns.map((column, i) => {
      const sorted = chosen.sort === i;
      const sort = () => { chosen.descending = sorted ? !chosen.descending : false; chosen.sort = i; redraw(); table.querySelectorAll("th button")[i].focus({ preventScroll: true }); };
      const mark = sorted ? (chosen.descending ? " ↓" : " ↑") : "";
      const button = element("button", { type: "button", title: column.help || null, click: sort }, column.label + mark);
      return element("th", { scope: "col", class: isNumber(i) ? "number" : null, "aria-sort": sorted ? (chosen.descending ? "descending" : "ascending") : "none" }, button);
    }));
  }

  function isNumber(i) {
    return members.rows.some((row) => typeof row[i] === "number") && members.columns[i].kind !== "who";
  }

  function redraw() {
    const rows = ordered();
    const numbers = members.columns.map((_, i) => isNumber(i));
    const body = element("tbody", {}, ...rows.slice(0, MOST_ROWS).map((row) => {
      const pick = () => { state.picked = state.picked === row ? null : row; changed(); };
      const cells = members.rows[row].map((value, i) => element("td", { class: numbers[i] ? "number" : null }, format(value)));
      return element("tr", { "data-row": String(row), class: state.picked === row ? "picked" : null, click: pick }, ...cells);
    }));
    table.replaceChildren(element("table", {}, element("thead", {}, header()), body));
    const words = [`${rows.length.toLocaleString("en")} of ${members.rows.length.toLocaleString("en")} members.`];
    if (rows.length > MOST_ROWS) words.push(`The first ${MOST_ROWS.toLocaleString("en")} are listed; the filter finds the others.`);
    words.push("Click a heading to sort, a row to draw that member" + (curves.lines.length < members.rows.length ? " (if its curves are in the file)." : "."));
    document.getElementById("members-hint").textContent = words.join(" ");
  }

  filters();
  drawers.push(redraw);
}
