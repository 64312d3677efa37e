"""Compiles every Triton kernel for every GPU architecture, without a GPU, and prints what each uses as JSON.

Run it under the version of Triton in question. With --write the figures become the budgets of that version, in
tests/kernels/budgets/, which a test holds later kernels to.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

BUDGETS = Path(__file__).parents[1] / "tests/kernels/budgets"


def main() -> None:
    """Measures, prints and, if asked to, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="make the figures the budgets of this version of Triton")
    arguments = parser.parse_args()
    if os.environ.get("TRITON_INTERPRET") == "1":
        sys.exit("TRITON_INTERPRET must be unset: the interpreter compiles nothing.")

    import triton
    from fastplast_kernels.proofs import conv_step, mlp_step, wasserstein
    from fastplast_kernels.proofs.budgets import ARCHITECTURES, compiled

    usage = {
        name: {f"sm_{architecture}": asdict(compiled(configuration, architecture)) for architecture in ARCHITECTURES}
        for module in (wasserstein, mlp_step, conv_step)
        for name, configuration in module.CONFIGURATIONS.items()
    }
    if arguments.write:
        path = BUDGETS / f"triton-{triton.__version__}.json"
        lines = []
        for name, targets in usage.items():
            inner = ",\n".join(f'    "{target}": {json.dumps(used)}' for target, used in targets.items())
            lines.append(f'  "{name}": {{\n{inner}\n  }}')
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(json.dumps(usage))


if __name__ == "__main__":
    main()
