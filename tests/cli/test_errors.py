"""From exceptions to one line and an exit code; progress for those who look."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from graphopt.cli.arrays import read_inputs, read_npz, write_npz
from graphopt.cli.errors import EXIT_CODES, guarded, warn
from graphopt.cli.progress import progress
from graphopt.errors import IRError, ModelError, ToolchainError, UsageError, VerificationError
from graphopt.runtime.files import written_beside
from tests.cli.conftest import Cli

RAISED: list[tuple[BaseException, int, str]] = [
    (ModelError("cut short", where="m.onnx", hint="fetch it again"), 3, "m.onnx: cut short [fetch it again]"),
    (UsageError("no such pass"), 2, "no such pass"),
    (ToolchainError("no linker"), 5, "no linker"),
    (VerificationError("too far off", where="output 'y'"), 6, "output 'y': too far off"),
    (IRError("a cycle"), 70, "a cycle [this is a bug; --debug shows where]"),
    (ZeroDivisionError("by zero"), 70, "ZeroDivisionError: by zero [this is a bug; --debug shows where]"),
    (KeyboardInterrupt(), 130, "interrupted"),
    (MemoryError(), 1, "out of memory"),
    (OSError(28, "No space left on device"), 2, "cannot write: No space left on device [free some space, or"),
    (PermissionError(13, "Permission denied", "f"), 2, "f: Permission denied"),
    (ValueError("two\nlines\x1b[31m"), 70, "ValueError: two lines [31m [this is a bug; --debug shows where]"),
]


@pytest.mark.parametrize(("error", "code", "text"), RAISED, ids=lambda value: type(value).__name__)
def test_one_line_and_a_code(
    capsys: pytest.CaptureFixture[str], error: BaseException, code: int, text: str
) -> None:
    def run() -> int:
        raise error

    assert guarded(run, debug=False) == code
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith(f"error: {text}") and shown.err.count("\n") == 1
    assert code in EXIT_CODES


def test_debug_lets_errors_through_but_not_an_interrupt() -> None:
    def run() -> int:
        raise ModelError("cut short")

    def stop() -> int:
        raise KeyboardInterrupt

    with pytest.raises(ModelError):
        guarded(run, debug=True)
    assert guarded(stop, debug=True) == 130


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    warn("two\nlines \x1b[31m")
    assert capsys.readouterr().err == "warning: two lines [31m\n"


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["linking", "writing"])
def test_a_compile_that_is_ended_leaves_nothing(
    cli: Cli, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, signal_number: int
) -> None:
    """The signal arrives when the library is linked, or when half of the bundle's files are there."""
    from graphopt.targets.toolchain import Toolchain

    def linking(*arguments: object, **options: object) -> None:
        os.kill(os.getpid(), signal_number)

    def writing(path: Path, data: bytes, write=Path.write_bytes) -> int:  # type: ignore[no-untyped-def]
        if path.name == "report.json":
            os.kill(os.getpid(), signal_number)
        return write(path, data)

    if moment == "linking":
        monkeypatch.setattr(Toolchain, "link_shared", linking)
    else:
        monkeypatch.setattr(Path, "write_bytes", writing)
    ended = cli("compile", model, "-o", tmp_path / "net.bundle")
    assert ended.code == 128 + signal_number and ended.code in EXIT_CODES
    assert ended.out == "" and "Traceback" not in ended.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("redirection", "code", "told"),
    [
        ("> /dev/full", 2, "error: cannot write: No space left on device"),
        (">&-", 0, ""),
        ("2>&-", 0, ""),
        ("| true; exit ${PIPESTATUS[0]}", 141, ""),
    ],
)
def test_an_output_that_takes_nothing(redirection: str, code: int, told: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m graphopt optimize --list-passes {redirection}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(told) and done.stderr.count("\n") == bool(told)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_for_terminals_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for stream, quiet, seen in (
        (Terminal(), False, True),
        (Terminal(), True, False),
        (io.StringIO(), False, False),
    ):
        monkeypatch.setattr(sys, "stderr", stream)
        with progress(quiet) as step:
            step("compiling", 1, 3)
        assert bool(stream.getvalue()) == seen


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), written_beside(path) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    with written_beside(path) as beside:
        beside.write_text("new")
    assert path.read_text() == "new"
    with pytest.raises(UsageError, match="No such file"), written_beside(tmp_path / "no" / "file") as beside:
        beside.write_text("lost")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_arrays_with_names_that_are_awkward(tmp_path: Path) -> None:
    arrays = {"file": np.arange(3), "a/b:0": np.ones((2, 2), np.float32)}
    write_npz(tmp_path / "x.npz", arrays)
    again = read_npz(tmp_path / "x.npz", [])
    assert again.keys() == arrays.keys()
    assert all(np.array_equal(again[name], array) for name, array in arrays.items())


def test_an_equals_sign_in_a_name_or_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a=b.npy", np.arange(2))
    np.save(tmp_path / "c.npy", np.arange(3))
    given = read_inputs([f"x={tmp_path / 'a=b.npy'}", f"y=0={tmp_path / 'c.npy'}"], ["x", "y", "y=0"])
    assert {name: array.size for name, array in given.items()} == {"x": 2, "y=0": 3}


HUGE = b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999,), }"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", r"it is neither \.npy nor \.npz \[write it with numpy\.save"),
        (b"a poem", r"it is neither \.npy nor \.npz \[write it with numpy\.save"),
        (b"PK\x03\x04 cut", "it is damaged: "),
        (b"\x93NUMPY\x01\x00 cut", "it is damaged: "),
        (HUGE, "it is damaged: "),
    ],
)
def test_a_file_that_holds_no_arrays(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UsageError, match=r"x\.npz: " + told):
        read_npz(tmp_path / "x.npz", [])


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}, "text"], object))
    with pytest.raises(UsageError, match="it holds Python objects, not numbers"):
        read_npz(tmp_path / "x.npy", [])
