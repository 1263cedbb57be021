"""The tuning database: a folder of files to which records are appended, one line each.

Every process that writes has a file of its own, so none waits for another, and a line is on the disk before the next
trial begins: a process that is killed loses what it was measuring, and at most leaves half a line, which readers pass
over. Rewriting (`prune`) makes a new file before it removes the old ones. A single file is a database too, to read.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from graphopt.errors import UsageError
from graphopt.targets.tuning.record import OK, Record, compiler_version

SUFFIX = ".jsonl"
LOCK = ".lock"


@dataclass(frozen=True)
class Contents:
    """The records of a database that hold for this compiler, and how many were passed over for which reason."""

    records: tuple[Record, ...]
    ignored: Mapping[str, int] = field(default_factory=dict)

    def best(self) -> dict[tuple[str, str, str, int], Record]:
        """The fastest of each place: workload, target, runner and threads."""
        found: dict[tuple[str, str, str, int], Record] = {}
        for record in self.records:
            known = found.get(record.place)
            if record.status == OK and (known is None or record.cost < known.cost):
                found[record.place] = record
        return found

    def defaults(self) -> dict[tuple[str, str, str, int], Record]:
        """The fastest trial of each place's default."""
        return Contents(tuple(record for record in self.records if record.is_default)).best()


def read(path: Path) -> Contents:
    """All records of a folder or a file. Raises UsageError where there is none."""
    if not path.exists():
        raise UsageError(
            "there is no such database", where=str(path), hint="`graphopt tune MODEL --database` makes one"
        )
    files = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    records: dict[str, Record] = {}
    ignored: Counter[str] = Counter()
    for file in files:
        try:
            lines = file.read_bytes().split(b"\n")
        except FileNotFoundError:  # pruned meanwhile
            continue
        for raw in filter(None, lines):
            try:
                line = raw.decode()
                record = Record.parse(line)
            except ValueError:
                ignored["not a whole record"] += 1
                continue
            if record.compiler != compiler_version():
                ignored[f"made by {record.compiler}, this is {compiler_version()}"] += 1
            else:
                records.setdefault(line, record)
    return Contents(tuple(records.values()), dict(ignored))


class Writer:
    """Appends records to a file of its own in the folder; use it in a `with`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Writer:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = open(self.folder / LOCK, "a")  # noqa: SIM115
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        except OSError as error:
            raise _unwritable(self.folder, error) from None
        self._file: IO[bytes] | None = None
        return self

    def append(self, records: Iterable[Record]) -> None:
        """Write records, and wait until the disk has them. Raises UsageError where it takes none."""
        text = "".join(f"{record.line()}\n" for record in records)
        if not text:
            return
        try:
            if self._file is None:
                self._file = open(_new_file(self.folder), "xb", buffering=0)  # noqa: SIM115
            rest = memoryview(text.encode())
            while rest:  # a disk that is almost full takes a part
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            if self._file is not None:  # what follows must not stand behind half a line
                self._file.close()
                self._file = None
            raise _unwritable(self.folder, error) from None

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
        self._lock.close()


def merge(folder: Path, sources: Iterable[Path]) -> int:
    """Add to `folder` what other databases know and it does not; returns how many records that are."""
    known = {record.line() for record in read(folder).records} if folder.exists() else set()
    new: dict[str, Record] = {}
    for source in sources:
        new.update({r.line(): r for r in read(source).records if r.line() not in known})
    with Writer(folder) as writer:
        writer.append(new.values())
    return len(new)


def export(path: Path, out: Path) -> int:
    """Write the best of each place, and its default to compare with, to one file; returns the number of records."""
    kept = _worth_keeping(read(path))
    _write_whole(out, kept)
    return len(kept)


def prune(folder: Path) -> tuple[int, int]:
    """Keep the best of each place and its default alone: records before and after.

    Raises UsageError while somebody writes.
    """
    contents = read(folder)
    if not folder.is_dir():
        raise UsageError("it is a single file", where=str(folder), hint="`graphopt db export` writes those")
    with _alone(folder):
        old = sorted(folder.glob(f"*{SUFFIX}"))
        contents = read(folder)
        kept = _worth_keeping(contents)
        _write_whole(_new_file(folder), kept)
        for file in old:
            file.unlink()
    return len(contents.records) + sum(contents.ignored.values()), len(kept)


def _worth_keeping(contents: Contents) -> list[Record]:
    kept = [*contents.best().values(), *contents.defaults().values()]
    return list({record.line(): record for record in kept}.values())


def _new_file(folder: Path) -> Path:
    return folder / f"{uuid.uuid4().hex}{SUFFIX}"


def _write_whole(out: Path, records: Iterable[Record]) -> None:
    """All or nothing."""
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with draft.open("w") as file:
            file.writelines(f"{record.line()}\n" for record in records)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(out)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _unwritable(out, error) from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    try:
        with open(folder / LOCK, "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
    except BlockingIOError:
        raise UsageError(
            "somebody is tuning into it", where=str(folder), hint="try again afterwards"
        ) from None
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot write: {error.strerror}", where=str(path), hint="name a database that can be written"
    )
