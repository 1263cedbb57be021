"""What a person sees first: help texts, the version, the targets."""

from __future__ import annotations

import pytest

import graphopt
from tests.cli.conftest import Cli

COMMANDS = [
    "inspect",
    "optimize",
    "quantize",
    "prune",
    "factorize",
    "sparsify",
    "recover",
    "compile",
    "run",
    "verify",
    "compare",
    "bench",
]


@pytest.mark.parametrize("command", [[name] for name in COMMANDS] + [["targets"], ["targets", "show"]])
def test_every_help_has_an_example(cli: Cli, command: list[str]) -> None:
    shown = cli(*command, "--help")
    assert (shown.code, shown.err) == (0, "")
    assert f"Example: graphopt {' '.join(command)}" in " ".join(shown.out.split()).replace("`", "")
    assert "--json" in shown.out


def test_the_commands_are_listed_with_exit_codes(cli: Cli) -> None:
    shown = cli("--help")
    assert shown.code == 0
    for name in [*COMMANDS, "targets", "Exit codes"]:
        assert name in shown.out
    assert cli().out == shown.out


def test_the_version(cli: Cli) -> None:
    assert cli("--version").out.strip() == graphopt.__version__


def test_targets(cli: Cli) -> None:
    shown = cli("targets")
    assert (shown.code, shown.err) == (0, "")
    for name in ("host", "rpi4", "rpi-armv7", "x86-64-v3", "Raspberry Pi 4"):
        assert name in shown.out
    assert {"host", "rpi3", "rpi5"} <= {target["name"] for target in cli("targets", "--json").data}


def test_one_target(cli: Cli) -> None:
    shown = cli("targets", "show", "rpi4")
    assert shown.code == 0
    for text in ("cortex-a72", "128 bits", "1800 MHz", "glibc 2.31"):
        assert text in shown.out
    assert cli("targets", "show", "rpi4", "--json").data["name"] == "rpi4"
