"""The package that users install: everything is in the wheel, nothing else is, and it works from there."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = {"graphopt": "graphopt", "passes": "graphopt/passes", "targets": "graphopt/targets"}
"""Folder of the checkout -> its place in the wheel."""

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of what is under version control, or would be."""
    pytest.importorskip("setuptools", "77", reason="needs setuptools >= 77 (pip install -e '.[dev]')")
    folder = tmp_path_factory.mktemp("wheel")
    checkout = folder / "checkout"
    hidden = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so", "*.o")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, checkout / name, ignore=hidden)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        ".",
    ]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_what_the_disk_holds(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    on_disk = {
        f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, place in FOLDERS.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".so", ".o")
    }
    assert {name for name in on_disk if name.endswith((".toml", ".c", ".h", ".in"))}
    assert packed == on_disk


def test_the_wheel_carries_command_and_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = {name.split(".dist-info/")[1]: name for name in archive.namelist() if ".dist-info/" in name}
        assert "licenses/LICENSE" in info
        assert b"graphopt = graphopt.cli:main" in archive.read(info["entry_points.txt"])
        metadata = archive.read(info["METADATA"]).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert metadata.count("\nRequires-Dist:") >= len(PROJECT["project"]["dependencies"])


def test_the_wheel_works_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    """Package data is found where only the wheel is."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import graphopt, graphopt.passes\n"
        "from graphopt.targets.device import list_targets, load_target\n"
        "from graphopt.targets.bundle_files import render\n"
        "from graphopt.targets import c_runtime\n"
        "from pathlib import Path\n"
        "assert graphopt.__file__.startswith(sys.argv[1]), graphopt.__file__\n"
        "assert graphopt.passes.__file__.startswith(sys.argv[1])\n"
        "assert load_target('rpi4').cpu == 'cortex-a72' and len(list_targets()) > 5\n"
        "assert 'prefix' in render('model.pc.in', dict.fromkeys(('MODEL', 'TARGET', 'ABI_VERSION'), 'x'))\n"
        "c_runtime.copy_to(Path(sys.argv[2]))\n"
        "graphopt.passes.catalog()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "site"), str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "parallel.c").is_file()


def test_pins() -> None:
    """TVM is pinned: its interfaces move, and ffi 0.1.15 breaks `tvm.ir.save_json`."""
    dependencies = PROJECT["project"]["dependencies"]
    assert "apache-tvm==0.27.0.post1" in dependencies
    assert "apache-tvm-ffi>=0.1.14,<0.1.15" in dependencies
    assert PROJECT["project"]["requires-python"] == ">=3.11"


def test_one_version() -> None:
    import graphopt

    assert graphopt.__version__ == PROJECT["project"]["version"]
