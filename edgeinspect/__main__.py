"""`python -m edgeinspect`, and the console script."""

from __future__ import annotations

import sys

from edgeinspect.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
