"""What stands in front of C functions that are made a part of their caller, and what such functions are written of."""

from __future__ import annotations

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


def registers(count: int) -> list[str]:
    """Sums as variables."""
    return [f"    int32_t s{n} = sums[{n}];" for n in range(count)]


def stored(count: int) -> list[str]:
    """And back."""
    return [f"    sums[{n}] = s{n};" for n in range(count)]


def times(number: int, text: str) -> str:
    """`number` times an operand."""
    return {0: "0", 1: text}.get(number, f"{number} * {text}")
