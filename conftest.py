"""Makes `graphopt.passes` and `graphopt.targets` importable from an uninstalled checkout."""

from pathlib import Path

import graphopt

ROOT = str(Path(__file__).parent)
if ROOT not in graphopt.__path__:
    graphopt.__path__.append(ROOT)
