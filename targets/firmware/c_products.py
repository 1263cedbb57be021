"""The innermost loops of integer kernels as C functions, named for the tile of sums that they add to.

    products_4x2(sums, x, step, weights, count)         sums[p * 2 + c] += x[p * step + k] * weights[k * 2 + c]
    short_products_4x2(...)                             the same, where x is int16
    dual_products_4x2(sums, x, step, weights, pairs)    the same two k at once: x is int16, and two k of two channels
                                                        are a word of weights

A core with the DSP extension multiplies two numbers of 16 bits by two and adds both products to a sum (smlad), and
makes two such numbers of every other byte of a word (sxtb16). So the bytes of a word of weights are

    [k of one channel, k of the next, k + 1 of the first, k + 1 of the next]

Where a compiler knows no such core the same sums are written in C. The functions are made a part of their caller,
whose sums then stay in registers.
"""

from __future__ import annotations

import re

INLINE = "GRAPHOPT_INLINE"
HAS_DSP = "GRAPHOPT_DSP"
IN_ORDER = "GRAPHOPT_IN_ORDER"
"""Loads stay where they are written: all of a turn at once would need more registers than there are."""

PREAMBLE = f"""\
#if defined(__GNUC__)
#define {INLINE} static inline __attribute__((always_inline))
#define {IN_ORDER} __asm__ __volatile__("" : : : "memory")
#else
#define {INLINE} static inline
#define {IN_ORDER} (void)0
#endif
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && !defined(__ARM_BIG_ENDIAN)
#define {HAS_DSP}
#endif
"""

_NAME = re.compile(r"(?:dual_|short_)?products_(\d+)x(\d+)")


def tile_of(name: str) -> tuple[int, int] | None:
    """Pixels and channels of the tile that such a function is for; None for any other name."""
    found = _NAME.fullmatch(name)
    return (int(found[1]), int(found[2])) if found else None


def products(name: str) -> str | None:
    """The definition of such a function; None for any other name."""
    tile = tile_of(name)
    if tile is None:
        return None
    return _dual(name, *tile) if name.startswith("dual_") else _plain(name, *tile)


def _plain(name: str, pixels: int, channels: int) -> str:
    """Most k in turns of four; those that are left over first."""
    kind = "int16_t" if name.startswith("short_") else "int8_t"
    lines = [
        f"{INLINE} void {name}(",
        f"    int32_t *sums, const {kind} *x, int32_t step, const int8_t *weights, int32_t count) {{",
        "    (void)step;",
        *_registers(pixels * channels),
    ]
    for left in (1, 2):
        lines += [f"    if (count & {left}) {{", *_steps(pixels, channels, left), "    }"]
    lines += [
        f"    for (const {kind} *const end = x + (count & ~3); x != end;) {{",
        *_steps(pixels, channels, 4),
    ]
    return "\n".join([*lines, "    }", *_stored(pixels * channels), "}", ""])


def _steps(pixels: int, channels: int, count: int) -> list[str]:
    """`count` k of all sums."""
    lines: list[str] = []
    for k in range(count):
        lines.append("        {")
        lines += [f"            const int32_t w{c} = weights[{k * channels + c}];" for c in range(channels)]
        for p in range(pixels):
            lines.append(f"            const int32_t x{p} = x[{_times(p, 'step')} + {k}];")
            lines += [f"            s{p * channels + c} += x{p} * w{c};" for c in range(channels)]
            lines.append(f"            {IN_ORDER};")
        lines.append("        }")
    return [*lines, f"        weights += {channels * count};", f"        x += {count};"]


def _dual(name: str, pixels: int, channels: int) -> str:
    head = f"{INLINE} void {name}("
    parameters = "    int32_t *sums, const int16_t *x, int32_t step, const int8_t *weights, int32_t pairs) {"
    fast = _with_dsp(pixels, channels)
    return "\n".join(
        [f"#if defined({HAS_DSP})", head, parameters, *fast, "}", "#else", head, parameters]
        + [*_without_dsp(pixels, channels), "}", "#endif", ""]
    )


def _without_dsp(pixels: int, channels: int) -> list[str]:
    return [
        "    for (int32_t i = 0; i < pairs; i++) {",
        f"        for (int32_t c = 0; c < {channels}; c++) {{",
        f"            const int8_t *w = weights + i * {2 * channels} + (c & ~1) * 2 + (c & 1);",
        f"            for (int32_t p = 0; p < {pixels}; p++) {{",
        "                const int16_t *from = x + p * step + i * 2;",
        f"                sums[p * {channels} + c] += from[0] * w[0] + from[1] * w[2];",
        "            }",
        "        }",
        "    }",
    ]


def _with_dsp(pixels: int, channels: int) -> list[str]:
    """Most pairs in turns of four; those that are left over first."""
    lines = [
        "    (void)step;",
        f"    int32_t first{', second' if channels > 2 else ''}, even, odd, input;",
        *_registers(pixels * channels),
    ]
    for left in (1, 2):
        lines += [
            f"    if (pairs & {left}) {{",
            *_pairs(pixels, channels, left),
            f"        x += {2 * left};",
            "    }",
        ]
    end = f"weights + (pairs >> 2) * {4 * 2 * channels}"
    lines += [f"    for (const int8_t *const end = {end}; weights != end;) {{", *_pairs(pixels, channels, 4)]
    return [*lines, "        x += 8;", "    }", *_stored(pixels * channels)]


def _pairs(pixels: int, channels: int, count: int) -> list[str]:
    """`count` pairs of all sums; words of weights two at once, if there is a register left for the second."""
    lines: list[str] = []
    for pair in range(count):
        if channels == 2:
            lines += [
                f"        first = load_int32(weights + {4 * pair});",
                *_word(pixels, 2, pair, 0, "first"),
            ]
        for channel in range(0, channels, 4) if channels > 2 else ():
            lines.append("        weights = load_words(weights, &first, &second);")
            lines += _word(pixels, channels, pair, channel, "first")
            lines += _word(pixels, channels, pair, channel + 2, "second")
    return [*lines, f"        weights += {4 * count};"] if channels == 2 else lines


def _word(pixels: int, channels: int, pair: int, channel: int, word: str) -> list[str]:
    """A word of weights."""
    lines = [f"        odd = odd_bytes({word});", f"        even = even_bytes({word});"]
    for p in range(pixels):
        at = p * channels + channel
        if pixels > 1 or channel == 0:
            lines.append(f"        input = load_int32(x + {_times(p, 'step')} + {2 * pair});")
        lines += [
            f"        s{at} = dual_product(input, even, s{at});",
            f"        s{at + 1} = dual_product(input, odd, s{at + 1});",
        ]
        if pixels > 1:
            lines.append(f"        {IN_ORDER};")
    return lines


def _registers(count: int) -> list[str]:
    return [f"    int32_t s{n} = sums[{n}];" for n in range(count)]


def _stored(count: int) -> list[str]:
    return [f"    sums[{n}] = s{n};" for n in range(count)]


def _times(number: int, text: str) -> str:
    return {0: "0", 1: text}.get(number, f"{number} * {text}")


DSP = """\
static inline const int8_t *load_words(const int8_t *from, int32_t *first, int32_t *second) {
    __asm__ __volatile__("ldrd %0, %1, [%2], #8" : "=&r"(*first), "=&r"(*second), "+r"(from) : : "memory");
    return from;
}

static inline int32_t even_bytes(int32_t word) {
    int32_t made;
    __asm__("sxtb16 %0, %1" : "=r"(made) : "r"(word));
    return made;
}

static inline int32_t odd_bytes(int32_t word) {
    int32_t made;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(made) : "r"(word));
    return made;
}

static inline int32_t dual_product(int32_t a, int32_t b, int32_t sum) {
    __asm__("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
}
"""
"""What the functions for the DSP extension are made of."""
