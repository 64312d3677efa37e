legend();
curveChart("first", ["error", "loss"]);
curveChart("second", ["hessian_srank", "test_error", "loss", "online_error"]);
spectrumChart();
sensitivity();
scatter();
memberTable();
watchTheme();
changed();
