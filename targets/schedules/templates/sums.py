"""Long sums of float16: sums of shorter ones.

A sum of n products, added one by one in an arithmetic of unit roundoff u, is off by up to n u times the sum of their
magnitudes. Added up in parts of k, whose sums are added to each other, it is off by (k + n / k) u; the errors being of
either sign, in truth by about the square root of either. Float32 has no need of it: its u is 2^-24, not 2^-11. Source:
Higham, "The accuracy of floating point summation", 1993.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx
from tvm.script.ir_builder import tirx as T

from graphopt.targets.lower.tensors import Expr
from graphopt.targets.schedules.templates.kernel import element_type

LONGEST = 80
"""Products of a part, which are added up one by one, unless a step of the reduction has more. Fewer than twice as many
are not worth two parts."""


def steps_at_once(dtype: str, steps: int, products: int, longest: int = LONGEST) -> int:
    """How many of the `steps` of a reduction, so many `products` each, are added up to a part of a sum."""
    if dtype != "float16" or steps * products <= 2 * longest:
        return steps
    return max(longest // products, 1)


@dataclass(frozen=True)
class Totals:
    """Vectors of sums in memory, for all registers serve the parts that are added to them.

    Where they lie depends on `shift`, 0 or 1, which only the running kernel knows: otherwise the compiler would keep
    them in registers too, and spill what the innermost loop needs.
    """

    buffer: tirx.Var
    vectors: int
    lanes: int
    shift: Expr

    @classmethod
    def of(cls, sums: tirx.Var, vectors: int, lanes: int, task: Expr) -> Totals:
        """The sums so far; `task` is the number of the task that adds to them."""
        buffer = T.alloc_buffer((2 * vectors * lanes,), element_type(sums), scope="local")
        totals = cls(buffer, vectors, lanes, tirx.indexmod(task, 2))
        totals._each(lambda place, here: T.buffer_store(buffer, sums[place], [here]))
        return totals

    def add(self, part: tirx.Var) -> None:
        self._each(lambda place, here: T.buffer_store(self.buffer, self.buffer[here] + part[place], [here]))

    def fetch(self, sums: tirx.Var) -> None:
        """Back into registers."""
        self._each(lambda place, here: T.buffer_store(sums, self.buffer[here], [place]))

    def _each(self, act: Callable[[Expr, Expr], None]) -> None:
        for vector in range(self.vectors):
            with T.vectorized(self.lanes) as lane:
                place = vector * self.lanes + lane
                act(place, self.shift * (self.vectors * self.lanes) + place)
