"""The innermost loops of integer kernels as C functions, named for the tile of sums that they add to.

    products_4x2(sums, x, step, weights, count)         sums[p * 2 + c] += x[p * step + k] * weights[k * 2 + c]
    short_products_4x2(...)                             the same, where x is int16
    dual_products_4x2(sums, x, step, weights, pairs)    the same two k at once (`c_dual_products`): x is int16
    nibble_products_4x2, short_nibble_products_4x2, dual_nibble_products_4x2
                                                        weights of 4 bits, two in a byte: the first in its upper half

The functions are made a part of their caller, whose sums then stay in registers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from graphopt.targets.firmware.c_dual_products import dual_definition
from graphopt.targets.firmware.c_preamble import IN_ORDER, INLINE, registers, stored, times

_NAME = re.compile(r"(?:(dual)_|(short)_)?(nibble_)?products_(\d+)x(\d+)")


@dataclass(frozen=True)
class Products:
    """What such a function multiplies: tiles of `pixels` by `channels`."""

    name: str
    is_dual: bool
    is_short: bool
    in_nibbles: bool
    pixels: int
    channels: int

    @property
    def sums(self) -> int:
        return self.pixels * self.channels


def products_of(name: str) -> Products | None:
    """The function that is called so; None for any other name."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    dual, short, nibble, pixels, channels = found.groups()
    return Products(name, dual is not None, short is not None, nibble is not None, int(pixels), int(channels))


def products(name: str) -> str | None:
    """The definition of such a function; None for any other name."""
    function = products_of(name)
    if function is None:
        return None
    if function.is_dual:
        return dual_definition(name, function.pixels, function.channels, function.in_nibbles)
    return _plain(function)


def _plain(function: Products) -> str:
    """Most k in turns of four; those that are left over first."""
    kind = "int16_t" if function.is_short else "int8_t"
    lines = [
        f"{INLINE} void {function.name}(",
        f"    int32_t *sums, const {kind} *x, int32_t step, const int8_t *weights, int32_t count) {{",
        "    (void)step;",
        *registers(function.sums),
    ]
    for left in (2,) if function.in_nibbles else (1, 2):
        lines += [f"    if (count & {left}) {{", *_steps(function, left), "    }"]
    lines += [
        f"    for (const {kind} *const end = x + (count & ~3); x != end;) {{",
        *_steps(function, 4),
    ]
    return "\n".join([*lines, "    }", *stored(function.sums), "}", ""])


def _steps(function: Products, count: int) -> list[str]:
    """`count` k of all sums."""
    channels, lines = function.channels, list[str]()
    for k in range(count):
        lines.append("        {")
        for c in range(channels):
            lines.append(f"            const int32_t w{c} = {_weight(function, k * channels + c)};")
        for p in range(function.pixels):
            lines.append(f"            const int32_t x{p} = x[{times(p, 'step')} + {k}];")
            lines += [f"            s{p * channels + c} += x{p} * w{c};" for c in range(channels)]
            lines.append(f"            {IN_ORDER};")
        lines.append("        }")
    taken = channels * count // (2 if function.in_nibbles else 1)
    return [*lines, f"        weights += {taken};", f"        x += {count};"]


def _weight(function: Products, number: int) -> str:
    if not function.in_nibbles:
        return f"weights[{number}]"
    byte = f"weights[{number // 2}]"
    return f"(int32_t)((uint32_t){byte} << 28) >> 28" if number % 2 else f"{byte} >> 4"
