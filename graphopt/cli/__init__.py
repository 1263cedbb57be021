"""The command line: `graphopt inspect MODEL`, `graphopt compile MODEL`, ... (`app.py` has the list)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

TERMINATED = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `graphopt --help`)."""
    from graphopt.cli.errors import guarded

    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given or os.environ.get("GRAPHOPT_DEBUG", "0") not in ("", "0")
    rest = [argument for argument in given if argument != "--debug"]

    def run() -> int:
        from graphopt.cli.app import app

        return app(rest, prog_name="graphopt", standalone_mode=False) or 0

    with ended_by_signal():
        return guarded(run, debug)


@contextmanager
def ended_by_signal() -> Iterator[None]:
    """SIGTERM ends the command like an error does, so that nothing half-written stays behind."""
    import signal
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
