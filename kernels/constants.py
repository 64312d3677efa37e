"""Numbers that kernels of the CPU and of the GPU share."""

CODES = {"identity": 0, "relu": 1, "leaky_relu": 2, "tanh": 3, "crelu": 4}  # of activations

# Coefficients of x^11, x^9, x^7, x^5 and x^3 in the minimax polynomial of tanh on [-0.6, 0.6]; that of x is 1.
TANH = (
    -0.005895150359719992,
    0.02079596370458603,
    -0.053783826529979706,
    0.13331924378871918,
    -0.33333298563957214,
)
