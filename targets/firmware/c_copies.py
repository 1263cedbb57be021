"""Copies of bytes and of what lies around an image, as C functions.

copy_int8(to, from, count)       numbers as they are; copy_int16 alike
widen_int8(to, from, count)      int16 of each byte: four of a word at a time with the DSP extension
fill_int16(to, value, count)     one number everywhere; fill_int8 alike
"""

from __future__ import annotations

from graphopt.targets.firmware.c_preamble import HAS_DSP

WIDEN = f"""\
static inline void widen_int8(int16_t *to, const int8_t *from, int32_t count) {{
    const int8_t *const end = from + count;
#if defined({HAS_DSP})
    for (const int8_t *const last = from + (count & ~3); from != last; from += 4) {{
        const int32_t word = load_int32(from);
        const int32_t even = even_bytes(word), odd = odd_bytes(word);
        int32_t low, high;
        __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(low) : "r"(even), "r"(odd));
        __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(high) : "r"(odd), "r"(even));
        store_int32(to, low);
        store_int32(to + 2, high);
        to += 4;
    }}
#endif
    while (from != end) *to++ = *from++;
}}
"""


def copies(name: str) -> str | None:
    """The definition of such a function; None for any other name."""
    if name.startswith("fill_"):
        kind = f"{name.removeprefix('fill_')}_t"
        return (
            f"static inline void {name}({kind} *to, {kind} value, int32_t count) {{\n"
            "    for (int32_t i = 0; i < count; i++) to[i] = value;\n"
            "}\n"
        )
    if name.startswith("copy_"):
        kind = f"{name.removeprefix('copy_')}_t"
        return (
            f"static inline void {name}({kind} *to, const {kind} *from, int32_t count) {{\n"
            "    memcpy(to, from, (size_t)count * sizeof *to);\n"
            "}\n"
        )
    return WIDEN if name == "widen_int8" else None
