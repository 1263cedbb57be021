"""The C text of a self-test's function that runs the layers one by one and looks at each result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from graphopt.ir import Value
from graphopt.targets.abi import C_TYPES, c_type
from graphopt.targets.firmware.arenas import arenas_of, pointers
from graphopt.targets.firmware.c_expressions import constant
from graphopt.targets.firmware.c_statements import Parameter
from graphopt.targets.firmware.entry import Entry
from graphopt.targets.firmware.interface import passed
from graphopt.targets.firmware.kernel_comments import comment
from graphopt.targets.firmware.layer_checks import WEIGHTS, Check
from graphopt.targets.firmware.layer_names import shortened
from graphopt.targets.program import Call

CHECKSUM = """\
/* FNV-1a, 32 bits. */
static uint32_t checksum(const void *from, size_t bytes) {
    const unsigned char *const byte = from;
    uint32_t sum = 2166136261u;
    for (size_t i = 0; i < bytes; i++) sum = (sum ^ byte[i]) * 16777619u;
    return sum;
}
"""

ADD = """\
/* Whether the weighted sum is further from the wanted one than `bound`, or no number. */
static int differs_{kind}(const void *from, size_t elements, float wanted, float bound) {{
    const {kind} *const made = from;
    float sum = 0.0f;
    for (size_t i = 0; i < elements;) {{
        float part = 0.0f;
        for (size_t n = 0; n < {stretch}u && i < elements; n++, i++) {{
            part += (float)(1u + i % {weights}u) * (float)made[i];
        }}
        sum += part;
    }}
    return !(sum - wanted <= bound) || !(wanted - sum <= bound);
}}
"""

STRETCH = 64
"""Elements that are added on their own first: the sum of many loses little so."""


def layers_text(entry: Entry, checks: Mapping[Value, Check]) -> list[str]:
    """Helpers, and `wrong_layer` with the parameters of a run but the arenas' sizes."""
    abi, program = entry.abi, entry.program
    inputs, outputs = passed(abi)
    pairs = [*inputs, *outputs]
    parameters = [
        *(
            f"{'const ' if n < len(inputs) else ''}{c_type(spec)} *{name}"
            for n, (name, spec) in enumerate(pairs)
        ),
        *(f"void *{arena.name}" for arena in arenas_of(abi)),
    ]
    body = []
    number = 0
    for step in program.steps:
        is_call = isinstance(step, Call)
        number += is_call
        head = f" /* {number}: {comment(shortened(step.known_as))} */" if isinstance(step, Call) else ""
        body.append(f"    {entry.statement(step)}{head}")
        if isinstance(step, Call):
            body += [f"    if ({told}) return {number};" for told in _conditions(entry, step, checks)]
    return [
        *_helpers(entry, checks),
        "/* The number of the first layer whose result is not as it should be, counted from 1; 0: there is none. */",
        f"static int wrong_layer({', '.join(parameters)}) {{",
        *(pointers(abi) if abi.workspace_bytes else ["    (void)arena;"]),
        *(f"    (void){name};" for name, _ in pairs),
        *body,
        "    return 0;",
        "}",
        "",
    ]


def _helpers(entry: Entry, checks: Mapping[Value, Check]) -> list[str]:
    """Those that are called."""
    looked_at = [(v, checks[v]) for call in entry.program.calls for v, _ in call.written if v in checks]
    kinds = sorted({C_TYPES[value.dtype] for value, check in looked_at if check.checksum is None})
    sums = [CHECKSUM] if any(check.checksum is not None for _, check in looked_at) else []
    return [*sums, *(ADD.format(kind=kind, stretch=STRETCH, weights=WEIGHTS) for kind in kinds)]


def _conditions(entry: Entry, call: Call, checks: Mapping[Value, Check]) -> Iterator[str]:
    """For each result of a layer that something is known of: that it is wrong."""
    for value, place in call.written:
        check = checks.get(value)
        if check is None:
            continue
        pointer = entry.argument(place, Parameter("", "void", True))
        if check.checksum is not None:
            size = value.size * value.dtype.numpy.itemsize
            yield f"checksum({pointer}, {size}u) != {check.checksum}u"
        else:
            wanted, bound = (constant(number, "float32") for number in (check.total, check.bound))
            yield f"differs_{C_TYPES[value.dtype]}({pointer}, {value.size}u, {wanted}, {bound})"
