"""What a caller may ask of a firmware bundle."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from graphopt.errors import UsageError

UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20}


@dataclass(frozen=True)
class FirmwareOptions:
    """`keep_inputs`: inputs and outputs are the caller's buffers. `c_only`: all of it is C99. `ram` and `flash` are the
    bytes that a model may take; None for what the board has. `patch`: its first layers are computed in bands of rows
    where that takes less RAM; None: only where it does not fit otherwise."""

    keep_inputs: bool = False
    c_only: bool = False
    ram: int | None = None
    flash: int | None = None
    patch: bool | None = None

    @property
    def given(self) -> str:
        """The first one that is not the default, as a keyword."""
        return next(iter(self.asked()), "")

    def asked(self) -> dict[str, Any]:
        """Those that are not the default, for a record."""
        default = FirmwareOptions()
        return {name: value for name, value in vars(self).items() if value != getattr(default, name)}


def bytes_of(text: str, option: str) -> int:
    """`65536`, `64K`, `64 KiB` or `1M` in bytes. Raises UsageError for anything else."""
    found = re.fullmatch(r"(\d+)\s*([KMB]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None or not int(found[1]):
        raise UsageError(
            f"'{text}' is no number of bytes", where=option, hint=f"write {option} 64K, or 65536"
        )
    return int(found[1]) * UNITS[found[2].upper()]
