"""The machine: its environment, what is done when its memory does not suffice, ranges for its profiler."""
