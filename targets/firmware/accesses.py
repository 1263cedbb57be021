"""What a lowered function reads and writes of its parameters, in the order in which its C text does.

Time is the number of elements that have been stored to parameters. Loops around such stores are followed round by
round, all rounds at once in numpy: an access is an array of times and one of places, with an axis for each of those
loops and one for the lanes of a vector. Loops that only read happen at one time; where they are long they read an
interval.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call, TensorLoad

from graphopt.targets.firmware.intervals import Array, Evaluator, Interval, between, exactly
from graphopt.targets.firmware.routine_calls import (
    RoutineCall,
    calls_of_routines,
    is_address,
    is_routine_call,
)
from graphopt.targets.lower.tensors import Expr, dtype_of

AXES = 24
"""Loops around a store that are followed, its lanes among them."""

MOST_STORES = 4_000_000
"""Elements stored by a function that is looked at."""

MOST_ROUNDS = 200_000
"""Rounds of loops that only read, all loops around them counted, that are followed one by one."""


class Unknown(Exception):
    """The function does what is not understood."""


@dataclass(frozen=True)
class Access:
    """Elements of the parameter `number`, at the places `index`, at the times `time`, where `condition` holds."""

    number: int
    index: Interval
    time: Array
    condition: Array
    is_store: bool = False

    def reached(self, values: Array) -> tuple[Array, Array]:
        """Times and values of all rounds that are reached, as lists."""
        times, found, reached = np.broadcast_arrays(self.time, values, self.condition)
        return times[reached], found[reached]


@dataclass
class Parameters:
    """The number of every buffer that is memory of a parameter; of each parameter its bytes and its elements' type;
    which are written, and how many stores to them there are."""

    numbers: dict[tirx.Var, int]
    bytes: dict[int, int] = field(default_factory=dict)
    kinds: dict[int, str] = field(default_factory=dict)
    written: set[int] = field(default_factory=set)
    stores: int = 0

    @classmethod
    def of(cls, function: tirx.PrimFunc) -> Parameters:
        """Raises Unknown."""
        found = cls({parameter: number for number, parameter in enumerate(function.params)})
        declarations: list[tirx.DeclBuffer] = []
        tvm_ffi.structural_walk(function.body, (tirx.DeclBuffer, declarations.append))
        for declaration in declarations:  # what is raised during a walk comes back as another error
            found._declare(declaration)
        stored = _stored(function.body)
        called = [
            buffer for call in calls_of_routines(function.body) for buffer, e in call.passed() if e.is_store
        ]
        found.written = {n for buffer, n in found.numbers.items() if stored[buffer] or buffer in called}
        found.stores = Stores(found)(function.body)
        if not found.written or found.stores > MOST_STORES:
            raise Unknown
        return found

    def element_bytes(self, number: int) -> int:
        return _nbytes(tvm.DataType(self.kinds[number]))

    def _declare(self, declaration: tirx.DeclBuffer) -> None:
        data = declaration.data
        source = data.args[0] if isinstance(data, Call) else data
        if source not in self.numbers:
            return
        number = self.numbers[declaration.buffer] = self.numbers[source]
        kind = tvm.DataType(str(declaration.buffer.ty.dtype))
        size = math.prod(int(n) for n in declaration.buffer.ty.shape) * _nbytes(kind)
        self.bytes[number] = max(self.bytes.get(number, 0), size)
        if kind.lanes > 1 or self.kinds.setdefault(number, str(kind)) != str(kind):
            raise Unknown


class Stores:
    """Elements that a statement stores to parameters, at most. Knows the range of each variable."""

    def __init__(self, parameters: Parameters) -> None:
        self._numbers = parameters.numbers
        self._ranges = Evaluator()

    def __call__(self, s: tirx.Stmt) -> int:
        if isinstance(s, tirx.SeqStmt):
            return sum(self(part) for part in s.seq)
        if isinstance(s, tirx.For):
            first, extent = self._ranges(s.min), self._ranges(s.extent)
            self._ranges.known[s.loop_var] = between(first.low, first.high + extent.high - 1)
            inside = self(s.body)
            return inside and inside * self.rounds(s)
        if isinstance(s, tirx.BufferStore):
            return tvm.DataType(dtype_of(s.value)).lanes if s.buffer in self._numbers else 0
        if isinstance(s, tirx.IfThenElse):
            return self(s.then_case) + (self(s.else_case) if s.else_case is not None else 0)
        if isinstance(s, tirx.AttrStmt):
            return self(s.body)
        if isinstance(s, tirx.While):
            if self(s.body):
                raise Unknown
            return 0
        if isinstance(s, tirx.Bind):
            self._ranges.known[s.var] = self._ranges(s.value)
            return 0
        if isinstance(s, tirx.DeclBuffer | tirx.AllocBuffer):
            return 0
        if isinstance(s, tirx.Evaluate) and not isinstance(s.value, Call):
            return 0
        if isinstance(s, tirx.Evaluate) and is_routine_call(s.value):
            call = RoutineCall(s.value, self._ranges)
            return call.rounds if any(e.is_store and b in self._numbers for b, e in call.passed()) else 0
        raise Unknown

    def rounds(self, loop: tirx.For) -> int:
        """Of a loop, at most."""
        most = int(self._ranges(loop.extent).high.max())
        if most > MOST_STORES:
            raise Unknown
        return most


def accesses(function: tirx.PrimFunc, parameters: Parameters) -> Iterator[Access]:
    """All of them, in the order of the text. Raises Unknown."""
    return _Walk(function, parameters).statement(function.body, np.asarray(0), _Loops(0, np.asarray(True)))


@dataclass(frozen=True)
class _Loops:
    """The loops around a statement that are followed: how many, which of their rounds reach it, rounds in all."""

    depth: int
    reached: Array
    rounds: int = 1


class _Walk:
    def __init__(self, function: tirx.PrimFunc, parameters: Parameters) -> None:
        self._parameters = parameters
        self._number = parameters.numbers
        self._count = Stores(parameters)
        self._count(function.body)
        self._evaluate = Evaluator()
        self._single = _numbers_stored_once(function.body)

    def statement(self, s: tirx.Stmt, time: Array, loops: _Loops) -> Iterator[Access]:
        """`time` is when it begins."""
        if isinstance(s, tirx.SeqStmt):
            for part in s.seq:
                yield from self.statement(part, time, loops)
                time = time + self._count(part)
        elif isinstance(s, tirx.For):
            yield from self._loop(s, time, loops)
        elif isinstance(s, tirx.BufferStore):
            yield from self._store(s, time, loops)
        elif isinstance(s, tirx.Bind):
            yield from self._reads(s.value, time, loops, self._evaluate)
            self._evaluate.known[s.var] = self._evaluate(s.value)
        elif isinstance(s, tirx.IfThenElse):
            yield from self._branch(s, time, loops)
        elif isinstance(s, tirx.AttrStmt):
            yield from self.statement(s.body, time, loops)
        elif isinstance(s, tirx.While):
            yield from self._reads(s.condition, time, loops, self._evaluate)
            yield from self.statement(s.body, time, loops)
        elif isinstance(s, tirx.Evaluate) and is_routine_call(s.value):
            yield from self._routine(s, time, loops)

    def _routine(self, s: tirx.Evaluate, time: Array, loops: _Loops) -> Iterator[Access]:
        call, counts = RoutineCall(s.value, self._evaluate), bool(self._count(s))
        if loops.depth + 2 > AXES:
            raise Unknown
        round = _axis(call.rounds, loops.depth)
        for buffer, effect in call.passed():
            number = self._number.get(buffer)
            if number is None:
                continue
            start = self._evaluate(call.starts[effect.argument])
            low, high = (end + round * effect.pace for end in (start.low, start.high))
            is_one = effect.length == 1 and start.is_exact
            place = exactly(low) if is_one else between(low, high + effect.length - 1)
            when = time + (round + effect.late if counts else 0)
            yield Access(number, place, when, loops.reached, is_store=effect.is_store)

    def _loop(self, loop: tirx.For, time: Array, loops: _Loops) -> Iterator[Access]:
        for bound in (loop.min, loop.extent):
            yield from self._reads(bound, time, loops, self._evaluate)
        start, extent = self._evaluate(loop.min), self._evaluate(loop.extent)
        inside = self._count(loop.body)
        if not inside and not self._is_short(loop, start, loops):
            last = np.maximum(start.high + extent.high - 1, start.low)
            self._evaluate.known[loop.loop_var] = between(start.low, last)
            yield from self.statement(loop.body, time, loops)
            return
        if loops.depth + 2 > AXES or not start.is_exact:
            raise Unknown
        rounds = self._count.rounds(loop)
        count = _axis(rounds, loops.depth)
        self._evaluate.known[loop.loop_var] = exactly(start.low + count)
        inner = _Loops(loops.depth + 1, loops.reached & (count < extent.high), loops.rounds * rounds)
        yield from self.statement(loop.body, time + count * inside, inner)
        self._forget(loop, loops.depth)

    def _is_short(self, loop: tirx.For, start: Interval, loops: _Loops) -> bool:
        """A loop that only reads, of few rounds: it is followed too, for the very places that it reads."""
        try:
            rounds = self._count.rounds(loop) * loops.rounds
        except Unknown:
            return False
        return start.is_exact and loops.depth + 3 < AXES and rounds <= MOST_ROUNDS

    def _forget(self, loop: tirx.For, axis: int) -> None:
        """Behind a loop a number that was stored inside is that of any round."""
        for buffer in self._single & set(_stored(loop.body)):
            known = self._evaluate.known.get(buffer)
            if known is not None and not known.is_one_along(axis):
                self._evaluate.known[buffer] = known.over(axis)

    def _branch(self, branch: tirx.IfThenElse, time: Array, loops: _Loops) -> Iterator[Access]:
        yield from self._reads(branch.condition, time, loops, self._evaluate)
        holds = self._evaluate(branch.condition)
        yes = _Loops(loops.depth, loops.reached & (holds.high > 0), loops.rounds)
        self._single -= set(_stored(branch))
        yield from self.statement(branch.then_case, time, yes)
        if branch.else_case is not None:
            no = _Loops(loops.depth, loops.reached & (holds.low == 0), loops.rounds)
            yield from self.statement(branch.else_case, time + self._count(branch.then_case), no)

    def _store(self, store: tirx.BufferStore, time: Array, loops: _Loops) -> Iterator[Access]:
        """Lanes are stored one after another; what a lane needs is read at the latest then."""
        evaluate, number = self._evaluate, self._number.get(store.buffer)
        if number is not None:
            lanes = _axis(tvm.DataType(dtype_of(store.value)).lanes, loops.depth)
            if not any(isinstance(part, tirx.Shuffle) for part in _parts(store.value)):
                evaluate = Evaluator(self._evaluate.known, lanes)
            time = time + lanes
        yield from self._reads(store.value, time, loops, evaluate)
        yield from self._reads(store.indices[0], time, loops, evaluate)
        if number is not None:
            yield Access(number, evaluate(store.indices[0]), time, loops.reached, is_store=True)
        elif store.buffer in self._single:
            self._evaluate.known[store.buffer] = self._evaluate(store.value)

    def _reads(self, e: Expr, time: Array, loops: _Loops, evaluate: Evaluator) -> Iterator[Access]:
        for part in _parts(e):
            if isinstance(part, tirx.Let):
                evaluate.known[part.var] = evaluate(part.value)
            elif isinstance(part, Call):
                self._check(part)
            elif isinstance(part, TensorLoad) and part.source in self._number:
                index = part.indices[0]
                is_lanes = evaluate.lanes is not None and evaluate.lanes.size == _lanes(index)
                if _lanes(index) > 1 and not is_lanes:
                    place = Evaluator(evaluate.known, _axis(_lanes(index), AXES - 1))(index)
                else:
                    place = evaluate(index)
                yield Access(self._number[part.source], place, time, loops.reached)

    def _check(self, call: Call) -> None:
        """Where a pointer goes, nobody knows what is read or written; a pure function reads from there on, at once."""
        name = getattr(call.op, "name", "?").rpartition(".")[2]
        passed = [a for a in call.args if isinstance(a, tirx.Var) and a in self._number]
        inner = [a.args[0] for a in call.args if isinstance(a, Call) and is_address(a)]
        passed += [load.source for load in inner if load.source in self._number]
        written = any(self._number[p] in self._parameters.written for p in passed)
        if passed and (name != "call_pure_extern" or written):
            raise Unknown


def _axis(count: int, depth: int) -> Array:
    """0, 1, ... along the axis `depth`."""
    return np.arange(count).reshape([1] * depth + [count] + [1] * (AXES - depth - 1))


def _parts(e: Expr) -> list[Expr]:
    """What is of interest in an expression, from the outside in."""
    found: list[Expr] = []
    tvm_ffi.structural_walk(e, ((tirx.Let, tirx.Shuffle, TensorLoad, Call), found.append))
    return found


def _stored(body: tirx.Stmt) -> Counter[tirx.Var]:
    """How many statements store to each buffer."""
    found: Counter[tirx.Var] = Counter()
    tvm_ffi.structural_walk(body, (tirx.BufferStore, lambda s: found.update([s.buffer])))
    return found


def _numbers_stored_once(body: tirx.Stmt) -> set[tirx.Var]:
    """Buffers of one number, which one statement stores."""
    return {
        buffer
        for buffer, count in _stored(body).items()
        if count == 1 and all(int(extent) == 1 for extent in buffer.ty.shape)
    }


def _nbytes(kind: tvm.DataType) -> int:
    return kind.lanes * ((kind.bits + 7) // 8)


def _lanes(index: Expr) -> int:
    return tvm.DataType(dtype_of(index)).lanes
