"""``python -m parbench``: the command line."""

import sys

from parbench.cli import main

sys.exit(main())
