"""The innermost loops for the DSP extension, which multiplies two numbers of 16 bits by two and adds both products to a
sum (smlad), and makes two such numbers of every other byte of a word (sxtb16).

So the bytes of a word of weights are two k of two channels,

    [k of one channel, k of the next, k + 1 of the first, k + 1 of the next]

Weights of 4 bits are two such words in one: the first in the upper halves of the bytes, the second in the lower ones.
A half that is masked, or moved up and masked, is a byte that is 16 times the weight, and sxtb16 takes it
as it is. So these sums are 16 times what they are with bytes, from where they start to where they are finished.

Where a compiler knows no such core the same sums are written in C.
"""

from __future__ import annotations

from graphopt.targets.firmware.c_preamble import HAS_DSP, IN_ORDER, INLINE, registers, stored, times

UPPER = "(int32_t)((uint32_t)first & 0xF0F0F0F0u)"
LOWER = "(int32_t)((uint32_t)first << 4 & 0xF0F0F0F0u)"


def dual_definition(name: str, pixels: int, channels: int, in_nibbles: bool) -> str:
    """Of the function for a tile of `pixels` by `channels`."""
    head = f"{INLINE} void {name}("
    parameters = "    int32_t *sums, const int16_t *x, int32_t step, const int8_t *weights, int32_t pairs) {"
    fast = _with_dsp(pixels, channels, in_nibbles)
    plain = _without_dsp(pixels, channels, in_nibbles)
    return "\n".join(
        [f"#if defined({HAS_DSP})", head, parameters, *fast, "}", "#else", head, parameters]
        + [*plain, "}", "#endif", ""]
    )


def _without_dsp(pixels: int, channels: int, in_nibbles: bool) -> list[str]:
    lines = [
        "    for (int32_t i = 0; i < pairs; i++) {",
        f"        for (int32_t c = 0; c < {channels}; c++) {{",
        f"            const int32_t word = i * {channels // 2} + c / 2;",
    ]
    if in_nibbles:
        lines += [
            "            const int8_t *w = weights + word / 2 * 4 + c % 2;",
            *(
                f"            const int32_t {name} = "
                f"word % 2 ? (int32_t)((uint32_t)w[{at}] << 28) >> 24 : w[{at}] & ~15;"
                for name, at in (("first", 0), ("second", 2))
            ),
        ]
    else:
        lines += [
            "            const int8_t *w = weights + word * 4 + c % 2;",
            "            const int32_t first = w[0], second = w[2];",
        ]
    return [
        *lines,
        f"            for (int32_t p = 0; p < {pixels}; p++) {{",
        "                const int16_t *from = x + p * step + i * 2;",
        f"                sums[p * {channels} + c] += from[0] * first + from[1] * second;",
        "            }",
        "        }",
        "    }",
    ]


def _with_dsp(pixels: int, channels: int, in_nibbles: bool) -> list[str]:
    """Most pairs in turns of four; those that are left over first."""
    two_words = channels > 2 and not in_nibbles
    lines = [
        "    (void)step;",
        f"    int32_t first{', second' if two_words else ''}, even, odd, input;",
        *registers(pixels * channels),
    ]
    turn = _nibble_pairs if in_nibbles else _pairs
    for left in (2,) if in_nibbles else (1, 2):
        lines += [
            f"    if (pairs & {left}) {{",
            *turn(pixels, channels, left),
            f"        x += {2 * left};",
            "    }",
        ]
    bytes = 4 * channels if in_nibbles else 4 * 2 * channels
    end = f"weights + (pairs >> 2) * {bytes}"
    lines += [
        f"    for (const int8_t *const end = {end}; weights != end;) {{",
        *turn(pixels, channels, 4),
    ]
    return [*lines, "        x += 8;", "    }", *stored(pixels * channels)]


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


def _nibble_pairs(pixels: int, channels: int, count: int) -> list[str]:
    """The same with two words in one: two pairs of two channels, or a pair of four."""
    if pixels == 1 and channels > 2:
        return [line for pair in range(count) for line in _nibble_row(channels, pair)]
    lines: list[str] = []
    for number in range(count * channels // 4):
        lines.append(f"        first = load_int32(weights + {4 * number});")
        for half, bits in enumerate((UPPER, LOWER)):
            pair, channel = divmod(4 * number + 2 * half, channels)
            lines.append(f"        even = {bits};")
            lines += _word(pixels, channels, pair, channel, "even")
    return [*lines, f"        weights += {count * channels};"]


def _nibble_row(channels: int, pair: int) -> list[str]:
    """A pair of one pixel, in an order that leaves registers for the sums of many channels."""
    lines = [f"        input = load_int32(x + {2 * pair});"]
    for c in range(0, channels, 4):
        sums = ", ".join(f"s{c + n}" for n in range(4))
        lines.append(f"        DUAL_NIBBLES({sums}, first, even, odd, weights, input);")
    return lines


def _word(pixels: int, channels: int, pair: int, channel: int, word: str) -> list[str]:
    """A word of weights."""
    lines = [f"        odd = odd_bytes({word});", f"        even = even_bytes({word});"]
    for p in range(pixels):
        at = p * channels + channel
        if pixels > 1 or channel == 0:
            lines.append(f"        input = load_int32(x + {times(p, 'step')} + {2 * pair});")
        lines += [
            f"        s{at} = dual_product(input, even, s{at});",
            f"        s{at + 1} = dual_product(input, odd, s{at + 1});",
        ]
        if pixels > 1:
            lines.append(f"        {IN_ORDER};")
    return lines


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

#define DUAL_NIBBLES(a, b, c, d, word, even, odd, weights, input)                                                \\
    __asm__ __volatile__("ldr %4, [%7], #4\\n and %5, %4, #0xF0F0F0F0\\n sxtb16 %6, %5, ror #8\\n sxtb16 %5, %5\\n"   \\
                         "smlad %0, %8, %5, %0\\n smlad %1, %8, %6, %1\\n lsl %5, %4, #4\\n"                      \\
                         "and %5, %5, #0xF0F0F0F0\\n sxtb16 %6, %5, ror #8\\n sxtb16 %5, %5\\n"                   \\
                         "smlad %2, %8, %5, %2\\n smlad %3, %8, %6, %3\\n"                                        \\
                         : "+&r"(a), "+&r"(b), "+&r"(c), "+&r"(d), "=&r"(word), "=&r"(even), "=&r"(odd),       \\
                           "+&r"(weights)                                                                      \\
                         : "r"(input)                                                                          \\
                         : "memory")
"""
"""What the functions for the DSP extension are made of."""
