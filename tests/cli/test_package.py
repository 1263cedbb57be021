"""`graphopt package`, and what `compile` says of options for firmware alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphopt.cli import main
from tests.cli.conftest import Cli


@pytest.fixture(scope="module")
def firmware(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("firmware") / "net"
    assert main(["compile", str(model), "-t", "rv32imac", "--name", "net", "-o", str(out), "--json"]) == 0
    return out


def test_firmware_has_a_header_and_no_library(cli: Cli, model: Path, tmp_path: Path) -> None:
    told = cli(
        "compile", model, "-t", "cortex-m3", "--name", "net", "-o", tmp_path / "fw", "--c-only", "--json"
    ).data
    assert Path(told["header"]).is_file() and told["weights_bytes"] > 0 and "library" not in told


def test_programs_are_told_the_files(cli: Cli, firmware: Path, tmp_path: Path) -> None:
    told = cli(
        "package", firmware, "--for", "platformio", "-o", tmp_path / "lib", "--version", "3.0.1", "--json"
    ).data
    assert told["path"] == str(tmp_path / "lib") and told["for"] == "platformio"
    assert (
        all((tmp_path / "lib" / name).is_file() for name in told["files"]) and "library.json" in told["files"]
    )
    assert '"version": "3.0.1"' in (tmp_path / "lib" / "library.json").read_text()


def test_people_are_told_them_too(
    cli: Cli, firmware: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = cli("package", firmware, "--for", "zephyr")
    assert shown.code == 0 and "as its README.md says" in shown.out and (tmp_path / "net" / "zephyr").is_dir()


def test_errors_are_one_line(cli: Cli, firmware: Path, bundle: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert "zephyr" in cli("package", firmware, "--for", "zephir", "-o", out).error
    assert "packages are of firmware" in cli("package", bundle, "--for", "zephyr", "-o", out).error
    refused = cli("package", firmware, "--for", "cmsis-pack", "-o", out)
    assert refused.code == 4 and "CMSIS-Packs are for Arm's cores" in refused.error
    assert "c_only is for firmware" in cli("compile", model, "--c-only", "-o", out).error
    assert not out.exists()
