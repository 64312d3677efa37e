legend();
curveChart("first", ["error", "loss"]);
curveChart("second", ["hessian_srank", "test_error", "loss", "online_error"]);
spectrumChart();
sensitivity();
scatter();
memberTable();
watchTheme();
changed();

// The contents name what the page shows.
for (const link of document.querySelectorAll("nav a")) {
  link.hidden = document.querySelector(link.getAttribute("href")).hidden;
}
