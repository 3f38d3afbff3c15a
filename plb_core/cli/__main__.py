"""`python -m plb_core.cli` is `plb`."""

import sys

from plb_core.cli import main

sys.exit(main())
