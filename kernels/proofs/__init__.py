"""What the GPU kernels cost without a GPU, for tests and scripts: no kernel and no engine imports this."""
