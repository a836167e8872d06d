"""`python -m edgeinspect`, and the console script."""

from __future__ import annotations

import sys

try:
    from edgeinspect.cli.main import main
except KeyboardInterrupt:  # Ctrl-C while the libraries are still being loaded
    sys.exit(130)

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
