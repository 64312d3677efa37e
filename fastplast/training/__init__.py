"""From a configuration to trained members: setup, the loop over tasks, capacity, dry runs."""
