"""The innermost loops of integer kernels as C functions, named for the tile of sums that they add to.

    products_4x2(sums, x, step, weights, count)         sums[p * 2 + c] += x[p * step + k] * weights[k * 2 + c]
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

PREAMBLE = f"""\
#if defined(__GNUC__)
#define {INLINE} static inline __attribute__((always_inline))
#else
#define {INLINE} static inline
#endif
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && !defined(__ARM_BIG_ENDIAN)
#define {HAS_DSP}
#endif
"""

_NAME = re.compile(r"(?:dual_)?products_(\d+)x(\d+)")


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
    lines = [
        f"{INLINE} void {name}(",
        "    int32_t *sums, const int8_t *x, int32_t step, const int8_t *weights, int32_t count) {",
        "    (void)step;",
        *_registers(pixels * channels),
        "    const int8_t *const end = x + count;",
        "    do {",
        *(f"        const int32_t w{c} = weights[{c}];" for c in range(channels)),
    ]
    for p in range(pixels):
        lines.append(f"        const int32_t x{p} = x[{_times(p, 'step')}];")
        lines += [f"        s{p * channels + c} += x{p} * w{c};" for c in range(channels)]
    lines += [f"        weights += {channels};", "        x++;", "    } while (x != end);"]
    return "\n".join([*lines, *_stored(pixels * channels), "}", ""])


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
    turn = 2 * channels
    lines = [
        "    (void)step;",
        *_registers(pixels * channels),
        "    if (pairs & 1) {",
        *_pair(pixels, channels, 0),
        f"        weights += {turn};",
        "        x += 2;",
        "    }",
        f"    for (const int8_t *const end = weights + (pairs >> 1) * {2 * turn}; weights != end;) {{",
        *_pair(pixels, channels, 0),
        *_pair(pixels, channels, 1),
        f"        weights += {2 * turn};",
        "        x += 4;",
        "    }",
    ]
    return [*lines, *_stored(pixels * channels)]


def _pair(pixels: int, channels: int, turn: int) -> list[str]:
    """Two k of all sums. Loads stay where they are written: all at once would need more registers than there are."""
    lines = ["        {"]
    for c in range(0, channels, 2):
        lines += [
            f"            const int32_t w{c} = load_int32(weights + {2 * (turn * channels + c)});",
            f"            const int32_t a{c} = even_bytes(w{c}), b{c} = odd_bytes(w{c});",
        ]
    for p in range(pixels):
        lines.append(f"            const int32_t x{p} = load_int32(x + {_times(p, 'step')} + {2 * turn});")
        for c in range(0, channels, 2):
            first = p * channels + c
            lines += [
                f"            s{first} = dual_product(x{p}, a{c}, s{first});",
                f"            s{first + 1} = dual_product(x{p}, b{c}, s{first + 1});",
            ]
        lines.append('            __asm__ __volatile__("" : : : "memory");')
    return [*lines, "        }"]


def _registers(count: int) -> list[str]:
    return [f"    int32_t s{n} = sums[{n}];" for n in range(count)]


def _stored(count: int) -> list[str]:
    return [f"    sums[{n}] = s{n};" for n in range(count)]


def _times(number: int, text: str) -> str:
    return {0: "0", 1: text}.get(number, f"{number} * {text}")


DSP = """\
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
    int32_t made;
    __asm__("smlad %0, %1, %2, %3" : "=r"(made) : "r"(a), "r"(b), "r"(sum));
    return made;
}
"""
"""What the functions for the DSP extension are made of."""
