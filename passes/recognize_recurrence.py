"""A quantised LSTM or GRU as one operator instead of a loop.

    Scan(h, c, x) {LSTM}  -->  quant::LSTM(x, R, bias, scale, h, c)
    Scan(h, x) {GRU}      -->  quant::GRU(x, R, bias, scale, h)

The contract, in the domain `graphopt.quant` (see `lower_integer`):

- `x` float32 (steps, batch, gates * hidden) is what each step adds to the product with the state; `R` int8
  (hidden, gates * hidden), `bias` int32 and `scale` float32 (gates * hidden) are constants; `h` int8 or uint8 and,
  of an LSTM, `c` float32 (batch, hidden) are the states before the first step. Attributes: `h_scale`,
  `h_zero_point`, and `reverse`, with which the steps are taken from the last to the first.
- A step: p = float((h - h_zero_point) R + bias) * scale, the sum exact; the cell of the Scan's body on x and p, gate by
  gate in ONNX's order, each operation rounded by itself to float32; h' = saturate(round(float h' / h_scale) +
  h_zero_point), ties to even.
- Results: the last h, of an LSTM the last c, and h after each step (steps, batch, hidden) at the place of its x; the
  latter as the next step reads it, or h' in float32, before it is quantised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from graphopt.ir import QUANT, Value
from graphopt.passes.recurrences import STATES, Recurrence, recurrence_of
from graphopt.pipeline import RulePass
from graphopt.rewrite import Builder, Match, Op, Rule


class RecurrenceOfBytes(Rule):
    """Scan(h, c, x) {LSTM} --> quant::LSTM(x, R, bias, scale, h, c)."""

    name = "recurrence-of-bytes"
    pattern = Op("Scan", more=True)

    def check(self, match: Match) -> str | None:
        found = recurrence_of(match.root)
        return found if isinstance(found, str) else None

    def rewrite(self, match: Match, build: Builder) -> Sequence[Value | None]:
        node = match.root
        found = recurrence_of(node)
        assert isinstance(found, Recurrence)
        *states, x = node.inputs
        constants = (
            build.const(data, name=f"{node.name}.{name}")
            for data, name in ((found.weights, "R"), (found.bias, "bias"), (found.scale, "scale"))
        )
        types = tuple(value.type for value in node.outputs)
        return build.ops(
            found.op_type,
            x,
            *constants,
            *states,
            outputs=STATES[found.op_type] + 1,
            domain=QUANT,
            types=types,  # type: ignore[arg-type]
            h_scale=float(found.state.scale[0]),
            h_zero_point=found.state.zero_point,
            reverse=(node.ints("scan_input_directions", (0,)) or (0,))[0],
        )


@dataclass(frozen=True)
class RecognizeRecurrence(RulePass):
    """Find quantised recurrences."""

    name: ClassVar[str] = "recognize-recurrence"

    @property
    def rules(self) -> Sequence[Rule]:
        return (RecurrenceOfBytes(),)
