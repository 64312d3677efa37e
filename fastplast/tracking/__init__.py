"""A run in TensorBoard or Weights & Biases while it trains."""
