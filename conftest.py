"""Makes `graphopt.passes` and `graphopt.targets` importable from an uninstalled checkout."""

from pathlib import Path

import pytest

import graphopt

ROOT = str(Path(__file__).parent)
if ROOT not in graphopt.__path__:
    graphopt.__path__.append(ROOT)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten."""
    return bool(request.config.getoption("--update-golden"))
