"""``python -m parbench``: the command line."""

import sys

try:
    from parbench.cli import main

    code = main()
except KeyboardInterrupt:
    # In the middle of the imports.
    code = 130
sys.exit(code)
