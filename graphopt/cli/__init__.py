"""The command line: `graphopt inspect | optimize | compile | run | verify | bench | targets`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `graphopt --help`)."""
    from graphopt.cli.errors import guarded

    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or os.environ.get("GRAPHOPT_DEBUG", "0") not in ("", "0")
    rest = [argument for argument in given if argument != "--debug"]

    def run() -> int:
        from graphopt.cli.app import app

        return app(rest, prog_name="graphopt", standalone_mode=False) or 0

    return guarded(run, debug)
