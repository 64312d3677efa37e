"""What each method and network is, in a line: ``fastplast list`` and the documentation read it here.

``register`` adds the lines of a user's own.
"""

METHOD_SUMMARIES: dict[str, tuple[str, str]] = {  # what it does, and where it comes from
    "none": ("plain training", ""),
    "l2": ("weights are pulled to zero", "Krogh, Hertz 1991"),
    "regenerative": (
        "each weight is pulled to its initial value (L2 init)",
        "Kumar, Marklund, Van Roy 2023, arXiv 2308.11958",
    ),
    "wasserstein": (
        "the sorted weights of each matrix are pulled to its sorted initial weights",
        "Lewandowski, Tanaka, Schuurmans, Machado 2023, arXiv 2312.00246, section 5",
    ),
    "cbp": (
        "at a small rate, the least useful of the mature units are reset (continual backprop)",
        "Dohare et al. 2024, Nature 632, arXiv 2306.13812",
    ),
    "redo": (
        "at a cadence, units with small activations are reset (recycling dormant neurons)",
        "Sokar et al. 2023, ICML, arXiv 2302.12902",
    ),
    "snr": (
        "a unit is reset that is silent for longer than its own past makes likely (self-normalised resets)",
        "Farias, Jozefiak 2025, ICLR, arXiv 2410.20098",
    ),
    "regrama": ("at a cadence, units with small gradients are reset", "Liu et al. 2025, NeurIPS, arXiv 2505.24061"),
    "shrink_perturb": (
        "parameters shrink, and noise, a fresh initialisation or the initial parameters are added",
        "Ash, Adams 2020, NeurIPS, arXiv 1910.08475",
    ),
    "clip": (
        "after every update parameters are clipped to a bound of their layer",
        "Elsayed, Lan, Lyle, Mahmood 2024, RLC, arXiv 2407.01704",
    ),
    "upgd": (
        "useful weights are protected from the gradient, the others get noise as well",
        "Elsayed, Mahmood 2024, ICLR, arXiv 2404.00781",
    ),
    "hare_tortoise": (
        "parameters are set back, at a cadence, to their slow running mean",
        "Lee et al. 2024, ICML, arXiv 2406.02596",
    ),
    "noise": (
        "normal noise is added to the gradient",
        "Elsayed, Mahmood 2024, arXiv 2404.00781 (absolute); Joudaki et al. 2025, arXiv 2510.00304 (relative)",
    ),
    "full_reset": ("parameters and optimizer begin anew at a change of task", "the line from scratch of most papers"),
    "spectral": (
        "the largest singular value of every weight matrix is pulled to 1",
        "Lewandowski et al. 2025, ICLR, arXiv 2406.06811",
    ),
    "parseval": ("hidden weight matrices are pulled to orthogonality", "Chung et al. 2024, NeurIPS, arXiv 2412.07224"),
    "fire": ("at a change of task weight matrices become orthogonal", "Han et al. 2026, ICLR, arXiv 2602.08040"),
    "dash": (
        "at a change of task weights shrink that do not point along the new task's descent",
        "Shin et al. 2024, NeurIPS, arXiv 2410.23495",
    ),
    "nap": (
        "hidden weight matrices keep their initial norms, beside layer normalisation (normalise and project)",
        "Lyle et al. 2024, NeurIPS, arXiv 2407.01800",
    ),
    "c_chain": (
        "outputs on other examples are held near those of some updates ago (less churn)",
        "Tang et al. 2025, ICML, arXiv 2506.00592",
    ),
}

NETWORK_SUMMARIES: dict[str, str] = {
    "mlp": "784-128-64-32-10 perceptron (paper, appendix B.1)",
    "mlp13": "13 hidden layers: eleven of 128, then 64-32 (paper, appendix F)",
    "cnn": "three 3x3 convolutions of stride 2, then 64-32-10 (appendix B.3)",
    "convnet": "convolutions of 5x5, 3x3, 3x3, each with 2x2 max pooling, then "
    "128-128-2 (Continual ImageNet, Dohare et al. 2024)",
    "resnet18": "ResNet-18 with batch normalisation, its first convolution 3x3 of stride 1 (He et al. 2016)",
    "resnet18_gn": "the same with group normalisation, 32 groups",
}
