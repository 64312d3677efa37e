"""The figures of the paper: what each needs is trained once, and drawn."""
