"""What the machine offers: memory, cores, environment, profiling."""
