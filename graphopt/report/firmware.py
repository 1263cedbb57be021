"""What firmware took on its board, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.report import tables

if TYPE_CHECKING:
    from rich.console import RenderableType

    from graphopt.targets.firmware.measured import Measured

LISTED = 8
"""Functions that are told; the others are added up."""


def measured_table(measured: Measured) -> RenderableType:
    """Instructions of one run, the most of them by function; stack, RAM and flash."""
    entries = {
        "flash": tables.size(measured.flash_bytes),
        "RAM": f"{tables.size(measured.ram_bytes)}, with inputs and outputs",
        "stack": f"{measured.stack_bytes} bytes of it",
    }
    if measured.instructions:
        entries["instructions"] = f"{measured.total_instructions:,} per inference"
    functions = list(measured.instructions.items())
    for name, count in functions[:LISTED]:
        entries[f"  {name}"] = f"{count:,}"
    if functions[LISTED:]:
        entries["  others"] = f"{sum(count for _, count in functions[LISTED:]):,}"
    return tables.facts("", entries)
