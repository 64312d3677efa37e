"""``python -m fastplast`` and the console script."""

import os
import sys


def main() -> None:
    """Runs the command line and exits with its status."""
    # PyTorch reads this at its first allocation: matrices of tens of megabytes in huge pages, where the system offers
    # them, come into memory faster.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    from fastplast.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
