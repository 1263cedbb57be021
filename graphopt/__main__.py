"""`python -m graphopt` is the command `graphopt`."""

from __future__ import annotations

import sys

from graphopt.cli import main

sys.exit(main())
