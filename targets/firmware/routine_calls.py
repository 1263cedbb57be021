"""Calls of routines in a lowered function: the buffers they are given, and what they do with them."""

from __future__ import annotations

import tvm_ffi
from tvm import tirx
from tvm.ir import Call

from graphopt.targets.firmware.helium.effects import Effect
from graphopt.targets.firmware.intervals import Evaluator
from graphopt.targets.firmware.routines import effects, is_routine
from graphopt.targets.lower.tensors import Expr


class RoutineCall:
    """The call of a routine, in `rounds`; numbers are known by `evaluate`, `starts` are where its pointers point to."""

    def __init__(self, call: Call, evaluate: Evaluator) -> None:
        name, *operands = call.args
        loads = {n: a.args[0] for n, a in enumerate(operands) if isinstance(a, Call) and is_address(a)}
        numbers = [0 if n in loads else int(evaluate(a).high.max()) for n, a in enumerate(operands)]
        self.starts = {n: load.indices[0] for n, load in loads.items()}
        self._buffers = {n: load.source for n, load in loads.items()}
        self.rounds, self._effects = effects(name.value, numbers)

    def passed(self) -> list[tuple[tirx.Var, Effect]]:
        return [(self._buffers[e.argument], e) for e in self._effects]


def calls_of_routines(body: tirx.Stmt) -> list[RoutineCall]:
    found: list[RoutineCall] = []

    def visit(s: tirx.Evaluate) -> None:
        if is_routine_call(s.value):
            found.append(RoutineCall(s.value, Evaluator()))

    tvm_ffi.structural_walk(body, (tirx.Evaluate, visit))
    return found


def is_routine_call(e: Expr) -> bool:
    is_call = isinstance(e, Call) and getattr(e.op, "name", "").endswith("call_extern")
    return is_call and is_routine(e.args[0].value)


def is_address(call: Call) -> bool:
    return getattr(call.op, "name", "").endswith("address_of")
