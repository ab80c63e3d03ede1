"""The entry point of ``parbench`` and ``python -m parbench``. It imports nothing before it can answer Ctrl-C."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line; returns the exit code, which is 130 if Ctrl-C is pressed during the first imports."""
    try:
        from parbench.cli import main as command_line

        return command_line()
    except KeyboardInterrupt:
        print("parbench: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
