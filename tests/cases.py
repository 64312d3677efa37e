"""The networks and layers that the engines are tested with, and the few combinations that are trained for long.

A fault lies in one part or where two parts meet, hardly ever only where three do: what takes a moment is tested in all
combinations, and what takes seconds in `LONG`.
"""

# What a layer may be: fields of an experiment. Those without a kink are alike in all derivatives: two trainings that
# differ by rounding errors stay as near as their first differences say. At a kink they may take different sides.
KINDS = {
    "relu": {"activation": "relu"},
    "leaky_relu": {"activation": "leaky_relu"},
    "tanh": {"activation": "tanh"},
    "identity": {"activation": "identity"},
    "crelu": {"activation": "crelu"},  # twice as many outputs as units
    "layer norm": {"activation": "tanh", "layer_norm": True},
    "dropout": {"activation": "relu", "dropout": 0.3},
    "all": {"activation": "crelu", "layer_norm": True, "dropout": 0.2},
}
SMOOTH = ("tanh", "identity", "layer norm")
NETWORKS = ("mlp", "mlp13", "cnn", "convnet")  # few and many layers, strided convolutions, convolutions with pooling
POOLED = ("convnet",)  # a maximum has kinks too

# Trainings of hundreds of updates: each network with each optimiser, each kind at least once.
LONG = [
    ("mlp", "tanh", "adam"),
    ("mlp", "dropout", "adamw"),
    ("mlp", "layer norm", "sgd"),
    ("mlp13", "identity", "adam"),
    ("mlp13", "tanh", "adamw"),
    ("mlp13", "relu", "sgd"),
    ("cnn", "layer norm", "adam"),
    ("cnn", "leaky_relu", "adamw"),
    ("cnn", "all", "sgd"),
    ("convnet", "crelu", "adam"),
    ("convnet", "relu", "adamw"),
    ("convnet", "tanh", "sgd"),
]
