"""Lowered TensorIR functions as C99.

    for v in range(8):  buffer[v] = a[v]      -->   for (int32_t v = 0; v < 8; v++) {
                                                        buffer[v] = a[v];
                                                    }
    y[ramp(8, 1, 4)] = x[ramp(8, 1, 4)]       -->   y[8] = x[8]; ... y[11] = x[11];

A vector's lanes are stored one after another; where a later lane reads what an earlier one stores, all are computed
first. Every name is used once in a function.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import tirx
from tvm.ir import Call, TensorLoad

from graphopt.errors import UnsupportedError
from graphopt.targets.firmware.c_expressions import C_TYPES, Expressions, scalar_of
from graphopt.targets.firmware.routines import written_parameters
from graphopt.targets.lower.tensors import Expr, dtype_of

INDENT = "    "

KEYWORDS = frozenset(
    "auto break case char const continue default do double else enum extern float for goto if inline int long register "
    "restrict return short signed sizeof static struct switch typedef union unsigned void volatile while".split()
)


@dataclass(frozen=True)
class Parameter:
    """A pointer to elements of the C type `kind`; what it points to is read only where `is_read_only`."""

    name: str
    kind: str
    is_read_only: bool

    def __str__(self) -> str:
        return f"{'const ' if self.is_read_only else ''}{self.kind} *{self.name}"


@dataclass(frozen=True)
class CFunction:
    """A kernel: its prototype's parts, the text of its body, and the helpers that calls."""

    name: str
    parameters: tuple[Parameter, ...]
    body: tuple[str, ...]
    helpers: frozenset[str]

    @property
    def prototype(self) -> str:
        return f"void {self.name}({', '.join(map(str, self.parameters)) or 'void'})"

    @property
    def text(self) -> str:
        return "\n".join([f"{self.prototype} {{", *self.body, "}", ""])


def print_function(name: str, function: tirx.PrimFunc) -> CFunction:
    """A lowered function on raw pointers as C. Raises UnsupportedError for what C99 cannot say."""
    return _Printer(function).function(name)


class _Printer:
    def __init__(self, function: tirx.PrimFunc) -> None:
        self._function = function
        self._taken: set[str] = set()
        self._names: dict[tirx.Var, str] = {}
        self._root: dict[tirx.Var, tirx.Var] = {}
        self._stored: set[tirx.Var] = set()
        self._declared: set[str] = set()
        self._lines: list[str] = []
        self._depth = 1
        self._expressions = Expressions(self._names, self._read, set(), self._declare)

    def function(self, name: str) -> CFunction:
        for pointer in self._function.params:
            self._names[pointer] = self._fresh(pointer.name.removesuffix("_p"))
            self._root[pointer] = pointer
        self._statement(self._function.body)
        self._lines = _without_unused(self._lines, self._declared)
        words = {word for line in self._lines for word in re.findall(r"\w+", line)}
        unread = [p for p in self._function.params if self._names[p] not in words]
        self._lines[:0] = [f"{INDENT}(void){self._names[p]};" for p in unread]
        parameters = tuple(
            Parameter(self._names[p], C_TYPES[scalar_of(str(p.ty.element_type.dtype))], p not in self._stored)
            for p in self._function.params
        )
        return CFunction(name, parameters, tuple(self._lines), frozenset(self._expressions.helpers))

    # --- statements ---

    def _statement(self, s: tirx.Stmt) -> None:
        if isinstance(s, tirx.SeqStmt):
            for part in s.seq:
                self._statement(part)
        elif isinstance(s, tirx.For):
            self._loop(s)
        elif isinstance(s, tirx.BufferStore):
            self._store(s)
        elif isinstance(s, tirx.Bind):
            self._expressions.bind(s.var, s.value)
        elif isinstance(s, tirx.IfThenElse):
            self._branch(s)
        elif isinstance(s, tirx.DeclBuffer):
            self._alias(s)
        elif isinstance(s, tirx.AllocBuffer):
            self._allocate(s.buffer)
        elif isinstance(s, tirx.While):
            self._block(f"while ({self._expressions.scalar(s.condition)})", s.body)
        elif isinstance(s, tirx.AttrStmt):
            self._statement(s.body)
        elif isinstance(s, tirx.Evaluate):
            self._routine(s.value)
        else:
            raise UnsupportedError(
                f"C text has no {type(s).__name__}", where="kernel", hint="please report it"
            )

    def _routine(self, call: Expr) -> None:
        """The call of a routine; whatever else is evaluated has no effect."""
        if not isinstance(call, Call) or not call.op.name.endswith("call_extern"):
            return
        name, *operands = call.args
        self._expressions.helpers.add(name.value)
        written = written_parameters(name.value, len(operands))
        passed = [self._passed(x, w) for x, w in zip(operands, written, strict=True)]
        self._line(f"{name.value}({', '.join(passed)});")

    def _passed(self, operand: Expr, written: bool) -> str:
        """An argument: a number, or the address of an element."""
        if not isinstance(operand, Call) or not operand.op.name.endswith("address_of"):
            return _bare(self._expressions.scalar(operand))
        (load,) = operand.args
        if written:
            self._stored.add(self._root[load.source])
        return self._at(load.source, self._expressions.place(load.source, load.indices[0], 0))

    def _loop(self, loop: tirx.For) -> None:
        name = self._names[loop.loop_var] = self._fresh(loop.loop_var.name)
        kind = C_TYPES[dtype_of(loop.loop_var)]
        start = self._expressions.scalar(loop.min)
        end = self._expressions.scalar(loop.min + loop.extent)
        self._block(f"for ({kind} {name} = {start}; {name} < {end}; {name}++)", loop.body)

    def _branch(self, branch: tirx.IfThenElse) -> None:
        self._block(f"if ({_bare(self._expressions.scalar(branch.condition))})", branch.then_case)
        if branch.else_case is not None:
            self._lines[-1] += " else {"
            self._inside(branch.else_case)

    def _block(self, head: str, body: tirx.Stmt) -> None:
        self._line(f"{head} {{")
        self._inside(body)

    def _inside(self, body: tirx.Stmt) -> None:
        self._depth += 1
        self._statement(body)
        self._depth -= 1
        self._line("}")

    def _store(self, store: tirx.BufferStore) -> None:
        self._stored.add(self._root[store.buffer])
        lanes = tvm.DataType(dtype_of(store.value)).lanes
        index = store.indices[0]
        wanted = [self._expressions.place(store.buffer, index, lane) for lane in range(lanes)]
        values = []
        at_once = lanes > 1 and _reads_elsewhere(store)
        for lane in range(lanes):
            text = self._expressions.scalar(store.value, lane)
            if at_once:
                text = self._declare(C_TYPES[scalar_of(dtype_of(store.value))], "lane", text)
            elif lanes > 1:
                self._write(store.buffer, wanted[lane], text)
            values.append(text)
        if at_once or lanes == 1:
            for place, text in zip(wanted, values, strict=True):
                self._write(store.buffer, place, text)

    def _write(self, buffer: tirx.Var, index: str, value: str) -> None:
        kind, stored = scalar_of(str(buffer.ty.dtype)), self._kind(buffer)
        if kind != stored:
            self._expressions.helpers.add(f"store_{kind}")
            self._line(f"store_{kind}({self._at(buffer, index)}, {_bare(value)});")
        else:
            self._line(f"{self._names[buffer]}[{_bare(index)}] = {_bare(value)};")

    def _read(self, buffer: tirx.Var, index: str, kind: str) -> str:
        """An element; `kind` is `int32:int8` where it is an int32 that begins at the int8 of that index."""
        wide, _, narrow = kind.partition(":")
        if wide != self._kind(buffer):
            self._expressions.helpers.add(f"load_{wide}")
            scale = narrow or wide
            return f"load_{wide}({self._at(buffer, index, scale)})"
        return f"{self._names[buffer]}[{_bare(index)}]"

    def _at(self, buffer: tirx.Var, index: str, counted: str = "") -> str:
        """The address of an element, where indices count elements of another type than those in memory."""
        counted = counted or scalar_of(str(buffer.ty.dtype))
        name = self._names[buffer]
        if counted == self._kind(buffer):
            return f"&{name}[{_bare(index)}]"
        size = tvm.DataType(counted).bits // 8
        return f"(unsigned char *){name} + {index} * {size}"

    # --- memory and names ---

    def _alias(self, declaration: tirx.DeclBuffer) -> None:
        data = declaration.data
        source = data.args[0] if isinstance(data, Call) else data
        self._root[declaration.buffer] = self._root[source]
        self._names[declaration.buffer] = self._names[source]

    def _allocate(self, buffer: tirx.Var) -> None:
        dtype = str(buffer.ty.dtype)
        size = math.prod(int(extent) for extent in buffer.ty.shape) * tvm.DataType(dtype).lanes
        name = self._names[buffer] = self._fresh(buffer.name)
        self._root[buffer] = buffer
        self._declared.add(name)
        self._line(f"{C_TYPES[scalar_of(dtype)]} {name}[{size}];")

    def _kind(self, buffer: tirx.Var) -> str:
        """The type of the elements that the memory of `buffer` was declared with."""
        root = self._root[buffer]
        pointee = getattr(root.ty, "element_type", None)
        return scalar_of(str(pointee.dtype if pointee is not None else root.ty.dtype))

    def _declare(self, kind: str, name: str, value: str) -> str:
        fresh = self._fresh(name)
        self._declared.add(fresh)
        self._line(f"const {kind} {fresh} = {_bare(value)};")
        return fresh

    def _fresh(self, name: str) -> str:
        """A C name made of `name` that nothing in the function has yet."""
        base = re.sub(r"\W", "_", name) or "value"
        if base in KEYWORDS or base[0].isdigit():
            base = f"{base}_"
        fresh, number = base, 0
        while fresh in self._taken:
            number += 1
            fresh = f"{base}_{number}"
        self._taken.add(fresh)
        return fresh

    def _line(self, text: str) -> None:
        self._lines.append(INDENT * self._depth + text)


def _without_unused(lines: list[str], declared: set[str]) -> list[str]:
    """The lines without declarations of names that are read nowhere, nor by other declarations that go."""
    while True:
        words = Counter(word for line in lines for word in set(re.findall(r"\w+", line)))
        kept = [line for line in lines if not _declares(line, {n for n in declared if words[n] == 1})]
        if len(kept) == len(lines):
            return lines
        lines = kept


def _declares(line: str, names: set[str]) -> bool:
    found = re.match(r"\s+(?:const )?\w+ (\w+)(?: = |\[\d+\];)", line)
    return found is not None and found[1] in names


def _reads_elsewhere(store: tirx.BufferStore) -> bool:
    """The value reads the buffer that is stored to, at another place than the lane's own."""
    found = []

    def visit(load: TensorLoad) -> None:
        if load.source.same_as(store.buffer):
            found.append(tvm_ffi.structural_equal(load.indices[0], store.indices[0]))

    tvm_ffi.structural_walk(store.value, (TensorLoad, visit))
    return not all(found)


def _bare(text: str) -> str:
    """Without parentheses around the whole."""
    if not text.startswith("(") or not text.endswith(")"):
        return text
    depth = 0
    for place, mark in enumerate(text):
        depth += (mark == "(") - (mark == ")")
        if depth == 0:
            return text[1:-1] if place == len(text) - 1 else text
    return text


def prototypes(functions: Sequence[CFunction]) -> list[str]:
    """Declarations of the functions."""
    return [f"{function.prototype};" for function in functions]
