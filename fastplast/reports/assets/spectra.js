// Magnitudes of eigenvalues by rank, positive and negative apart, a line for each of some tasks.
function spectrumChart() {
  const { spectra } = report;
  if (!spectra) return;
  document.getElementById("spectra").hidden = false;
  const points = spectra.at[Object.keys(spectra.at)[0]].size.shape[3];
  const chosen = { row: 0, when: Object.keys(spectra.at)[0], signature: null };
  const controls = document.getElementById("spectra-controls");

  function series(kind, row, task, sign) {
    const packed = spectra.at[chosen.when][kind];
    const start = ((row * spectra.tasks.length + task) * 2 + sign) * points;
    return Array.from(unpack(packed).subarray(start, start + points)).filter(Number.isFinite);
  }

  function choices() {
    return spectra.rows.map((row, i) => ({ row, i })).filter(({ row }) => state.kept[row] && !isDropped(row));
  }

  function choose() {
    const there = choices();
    if (there.length && !there.some(({ i }) => i === chosen.row)) chosen.row = there[0].i;
    const signature = there.map(({ i }) => i).join();
    if (signature === chosen.signature) return; // a control that is being used must stay
    chosen.signature = signature;
    const options = there.map(({ row, i }) => ({ value: String(i), text: shorten(memberName(row), 90) }));
    const times = ["start", "end"].map((when) => ({ value: when, text: `task ${when}`, disabled: !spectra.at[when] }));
    controls.replaceChildren(
      selector("member", options, String(chosen.row), (value) => { chosen.row = Number(value); redraw(); }),
      radios("measured at", times, chosen.when, (when) => { chosen.when = when; redraw(); })
    );
  }

  function redraw() {
    choose();
    const traces = [];
    const last = spectra.tasks.length - 1;
    const there = choices().length > 0;
    spectra.tasks.forEach((task, k) => [1, 0].forEach((sign) => {
      const y = there ? series("size", chosen.row, k, sign) : [];
      if (!y.length) return;
      traces.push({
        x: series("rank", chosen.row, k, sign), y, type: "scatter", mode: "lines", xaxis: sign ? "x" : "x2", yaxis: sign && isNarrow() ? "y2" : "y", name: `task ${task}`,
        line: { color: taskColour(last ? k / last : 1), width: k === 0 || k === last ? 2.5 : 1.3 },
        hovertemplate: `task ${task}<br>rank %{x}: ${sign ? "−" : ""}%{y:.3~g}<extra></extra>`,
      });
    }));
    const sizes = traces.flatMap((trace) => trace.y);
    const stacked = isNarrow();
    const range = sizes.length ? limits(sizes) : undefined;
    const ticks = { type: "log", ...logTicks((range || []).map((power) => 10 ** power)), range };
    const ranksAxis = (title, more) => axis(title, { type: "log", dtick: 1, ...more });
    draw("spectra-chart", traces, {
      xaxis: ranksAxis("rank among negative eigenvalues", stacked ? { domain: [0, 1], anchor: "y2" } : { domain: [0, 0.48] }),
      xaxis2: ranksAxis("rank among positive eigenvalues", stacked ? { domain: [0, 1], anchor: "y" } : { domain: [0.52, 1], anchor: "y" }),
      yaxis: axis(stacked ? "positive eigenvalue" : "|eigenvalue|", { ...ticks, domain: stacked ? [0.58, 1] : [0, 1] }),
      ...(stacked ? { yaxis2: axis("|negative eigenvalue|", { ...ticks, domain: [0, 0.42], anchor: "x" }) } : {}),
      annotations: traces.length ? [] : [{ text: "no spectrum is left to draw", showarrow: false, x: 0.5, y: 0.5, xref: "paper", yref: "paper" }],
    });
    const key = element("span", { class: "key" });
    key.style.background = `linear-gradient(to right, ${[0, 0.25, 0.5, 0.75, 1].map(taskColour).join(",")})`;
    document.getElementById("spectra-hint").replaceChildren(
      `task ${spectra.tasks[0]}`, key, `task ${spectra.tasks[last]}. `,
      `Both axes are logarithmic. ${spectra.tasks.length} tasks and ${points} ranks of each sign are kept, of ${spectra.rows.length} of ${members.rows.length.toLocaleString("en")} members. `,
      "Directions that are zero by structure are left out; a method other than exact stores only the eigenvalues that it computed."
    );
  }

  function limits(sizes) {
    const top = Math.log10(sizes.reduce((a, b) => Math.max(a, b)));
    const bottom = Math.log10(sizes.reduce((a, b) => Math.min(a, b)));
    return [Math.max(bottom, top - 14) - 0.3, top + 0.3]; // below lies rounding
  }

  drawers.push(redraw);
}
