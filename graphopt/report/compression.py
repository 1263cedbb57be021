"""What pruning or factorising a model did, for people and for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from graphopt.report.quantization import quality_facts
from graphopt.report.tables import duration, facts, size, table

if TYPE_CHECKING:
    from graphopt.compression import Change
    from graphopt.factorization import FactorizeResult
    from graphopt.passes.pruning.refit import Fit
    from graphopt.pruning import PruneResult
    from graphopt.recovery.recover import RecoverResult
    from graphopt.sparsification import SparsifyResult


def change_tables(title: str, change: Change, notes: Sequence[str]) -> list[Any]:
    """Before and after; then quality, and what to know."""
    a, b = change.before, change.after
    rows = [
        _row("MACs", a.cost.macs, b.cost.macs),
        _row("parameters", a.cost.parameters, b.cost.parameters),
        _row("file", a.file_bytes, b.file_bytes, size),
    ]
    if change.seconds is not None:
        rows.append(_row("time here", *change.seconds, duration))
    entries: dict[str, Any] = {}
    if change.quality is None:
        entries["quality"] = "not measured, for there are no samples; --data gives them"
    else:
        entries |= quality_facts(change.quality, "whole", "samples")
    if notes:
        entries["note"] = list(notes)
    return [table(title, ("", "before", "after", "left"), rows), facts("", entries)]


def _row(name: str, before: Any, after: Any, words: Any = None) -> list[Any]:
    share = f"{100 * after / before:.1f} %" if before and after is not None else None
    return [name, *((words(v) if words and v is not None else v) for v in (before, after)), share]


def prune_tables(result: PruneResult, title: str) -> list[Any]:
    """The widths of groups or the blocks that went, then what that changed."""
    if result.blocks:
        gone = [[b.name, b.layers, b.parameters, f"{100 * b.error:.2f} %"] for b in result.blocks]
        columns = ("block, up to layer", "layers", "parameters", "error of outputs, before fitting")
        return [table("Blocks taken out", columns, gone), *change_tables(title, result.change, result.notes)]
    rows = [[width.name, width.before, width.after] for width in result.widths]
    return [
        table(f"Channels by {result.importance}", ("group", "before", "after"), rows),
        *change_tables(title, result.change, result.notes),
    ]


def fit_tables(fits: Sequence[Fit]) -> list[Any]:
    """What fitting did to each layer."""
    rows = [[fit.layer, f"{fit.before:.1f} dB", f"{fit.after:.1f} dB"] for fit in fits]
    return [table("", ("layer", "SQNR of its results", "fitted"), rows)] if rows else []


def change_data(change: Change) -> dict[str, Any]:
    """Everything, with names as in the classes."""
    return asdict(change)


def prune_data(result: PruneResult) -> dict[str, Any]:
    return {
        "importance": result.importance,
        "blocks": [asdict(block) for block in result.blocks],
        "widths": [asdict(width) for width in result.widths],
        "fits": [asdict(fit) for fit in result.fits],
        "notes": list(result.notes),
        **change_data(result.change),
    }


def factorize_tables(result: FactorizeResult, title: str) -> list[Any]:
    """What became of each dense layer, then what that changed."""
    rows = [[layer.name, layer.inputs, layer.outputs, layer.rank, layer.reason] for layer in result.layers]
    columns = ("layer", "inputs", "outputs", "rank", "stays, for")
    return [table("Dense layers", columns, rows), *change_tables(title, result.change, result.notes)]


def factorize_data(result: FactorizeResult) -> dict[str, Any]:
    return {
        "layers": [asdict(layer) for layer in result.layers],
        "fits": [asdict(fit) for fit in result.fits],
        "notes": list(result.notes),
        **change_data(result.change),
    }


def sparsify_tables(result: SparsifyResult, title: str) -> list[Any]:
    """The zeros of each layer and what they save where they are not stored, then what that changed."""
    rows = [[one.name, one.weights, f"{100 * one.ratio:.1f} %", one.reason] for one in result.layers]
    columns = ("layer", "weights", "zero", "stays, for")
    weights, zeros = (sum(getattr(one, name) for one in result.layers) for name in ("weights", "zeros"))
    told = {
        "zero": f"{100 * result.ratio:.1f} % of {weights:,} weights",
        "of one byte each": f"{size(weights)}; with a bitmap of what is not zero {size(bitmap_bytes(weights, zeros))}",
    }
    return [
        table(f"Zeros, {result.pattern}", columns, rows),
        facts("", told),
        *change_tables(title, result.change, result.notes),
    ]


def bitmap_bytes(weights: int, zeros: int) -> int:
    """Of weights of one byte of which zeros are left out, and a bit for each."""
    return weights - zeros + -(-weights // 8)


def sparsify_data(result: SparsifyResult) -> dict[str, Any]:
    return {
        "pattern": result.pattern,
        "layers": [asdict(layer) for layer in result.layers],
        "fits": [asdict(fit) for fit in result.fits],
        "notes": list(result.notes),
        **change_data(result.change),
    }


def recover_tables(result: RecoverResult, title: str) -> list[Any]:
    """How learning went, then the student beside its teacher."""
    course = result.course
    told = {
        "loss held back": f"{course.best:.4g}, {course.first:.4g} before learning",
        "epochs": f"{course.epochs}: {course.ended}",
    }
    return [facts("Learning", told), *change_tables(title, result.change, result.notes)]


def recover_data(result: RecoverResult) -> dict[str, Any]:
    return {
        "course": asdict(result.course),
        "notes": list(result.notes),
        **change_data(result.change),
    }
