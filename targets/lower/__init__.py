"""From operators to TensorIR.

An operator is lowered in one of two ways. `LOWERINGS` holds tensor expressions: `f(node, inputs)` returns the
output tensors, which fuse and take any schedule. `OPAQUE` holds what tensor expressions cannot say well
(recurrences, sorting, ordered updates): `f(node)` returns a whole, scheduled kernel, alone in its group. An
operator in both tables, such as Concat, uses the latter when it is alone.

TVM is imported when the tables or `lower_body` are first used; `unsupported` and `is_supported` do without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphopt.targets.lower.support import is_supported, unsupported

if TYPE_CHECKING:
    from tvm import tirx

    from graphopt.ir import Graph

__all__ = ["LOWERINGS", "OPAQUE", "is_supported", "lower_body", "unsupported"]


def lower_body(body: Graph) -> tirx.PrimFunc:
    """The kernel of a group: parameters are the body's inputs, then its outputs.

    Tensor expressions come back unscheduled; opaque kernels are complete and carry the attribute
    `tirx.is_scheduled`. Raises UnsupportedError for what has no kernel, and for a body without any element to
    compute.
    """
    from graphopt.targets.lower.body import lower

    return lower(body)


def __getattr__(name: str) -> Any:
    if name in ("LOWERINGS", "OPAQUE"):
        from graphopt.targets.lower import tables

        return getattr(tables, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
