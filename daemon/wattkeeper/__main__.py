"""`python -m wattkeeper` is `wattkeeper`."""

import sys

from wattkeeper.cli.main import main

sys.exit(main())
