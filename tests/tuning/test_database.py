"""The database: what is written is read back, whatever happens to those who write."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from graphopt.errors import UsageError
from graphopt.targets.tuning.database import SUFFIX, Writer, export, merge, prune, read
from graphopt.targets.tuning.record import FAILED, Record
from tests.tuning.records import record


def write(folder: Path, *records: Record) -> None:
    with Writer(folder) as writer:
        writer.append(records)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    records = (
        record(1e-3, is_default=True),
        record(2e-3, columns=5),
        record(float("inf"), columns=6, status=FAILED),
    )
    write(tmp_path / "db", *records)
    assert set(map(Record.line, read(tmp_path / "db").records)) == set(map(Record.line, records))
    assert read(tmp_path / "db").best()[records[0].place] == records[0]


def test_costs_of_different_runners_and_threads_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path, record(1.0), record(5.0, threads=2), record(1e6, runner="qemu", unit="instructions"))
    assert len(read(tmp_path).best()) == 3


def test_half_a_line_and_other_compilers_are_passed_over_with_a_reason(tmp_path: Path) -> None:
    write(tmp_path, record(1.0), record(0.5, compiler="tvm 0.1"))
    [file] = tmp_path.glob(f"*{SUFFIX}")
    file.write_bytes(file.read_bytes() + record(0.1).line().encode()[:-9])
    contents = read(tmp_path)
    assert [r.cost for r in contents.records] == [1.0]
    torn, foreign = sorted(contents.ignored)[1], sorted(contents.ignored)[0]
    assert "tvm 0.1" in foreign and torn == "not a whole record"


@pytest.mark.parametrize("text", ["{}", "[]", "null", "1", '{"version":1}', "\x00" * 40])
def test_no_line_is_too_strange(tmp_path: Path, text: str) -> None:
    file = tmp_path / "db.jsonl"
    file.write_text(f"{text}\n{record().line()}\n")
    assert len(read(file).records) == 1


def test_a_cost_below_nothing_is_no_record() -> None:
    with pytest.raises(ValueError):
        Record.parse(record(-1.0).line())


def test_merging_adds_what_is_new_and_only_once(tmp_path: Path) -> None:
    write(tmp_path / "one", record(1.0))
    write(tmp_path / "two", record(1.0), record(2.0, columns=5))
    assert merge(tmp_path / "one", [tmp_path / "two"]) == 1
    assert merge(tmp_path / "one", [tmp_path / "two"]) == 0
    assert len(read(tmp_path / "one").records) == 2


def test_export_and_prune_keep_the_best_and_the_default(tmp_path: Path) -> None:
    db = tmp_path / "db"
    write(
        db,
        record(3.0, is_default=True),
        record(2.0, columns=5),
        record(2.5, columns=6),
        record(9.0, key="b" * 8),
    )
    assert export(db, tmp_path / "best.jsonl") == 3
    assert prune(db) == (4, 3)
    kept = read(db).records
    assert set(map(Record.line, kept)) == set(map(Record.line, read(tmp_path / "best.jsonl").records))
    assert sorted(r.cost for r in kept) == [2.0, 3.0, 9.0]


def test_prune_waits_for_nobody_and_takes_nothing_from_who_writes(tmp_path: Path) -> None:
    with Writer(tmp_path) as writer:
        writer.append([record()])
        with pytest.raises(UsageError, match="somebody is tuning into it"):
            prune(tmp_path)
    assert prune(tmp_path) == (1, 1)


def test_a_place_that_cannot_be_written_is_told_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot write"), Writer(tmp_path / "file" / "db"):
        pass
    with pytest.raises(UsageError, match="no such database"):
        read(tmp_path / "none")


WRITING = """
import sys
from pathlib import Path
from graphopt.targets.tuning.database import Writer
from tests.tuning.records import record
with Writer(Path(sys.argv[1])) as writer:
    for number in range(1, 10**9):
        writer.append([record(float(number), columns=number)])
        print(number, flush=True)
"""


def test_who_is_killed_loses_nothing_that_was_written(tmp_path: Path) -> None:
    generator = random.Random(0)
    kept = 0
    for _ in range(5):
        command = [sys.executable, "-c", WRITING, str(tmp_path)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        ) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(generator.randrange(1, 30))]
            process.send_signal(signal.SIGKILL)
            told = [int(line) for line in "".join([*lines, process.stdout.read()]).split()]
        contents = read(tmp_path)
        assert {float(number) for number in told} <= {r.cost for r in contents.records}
        assert len(contents.records) >= kept
        assert sum(contents.ignored.values()) <= 5
        kept = len(contents.records)
    prune(tmp_path)
    assert read(tmp_path).ignored == {}
