"""The innermost loops of integer kernels whose weights lie in flash without their zeros.

    sparse_products_4x1(sums, x, step, weights, number, count)     sums[p] += x[p * step + k] * weight[k], k < count
    short_sparse_products_4x1(...)                                 the same, where x is int16

`weights` begin with a table: where each run begins, int32 each; `number` tells which run is wanted. A run has a bitmap
for each channel of the tile, words of 32 weights of which the first is the highest bit, then the weights that are not
zero, channel by channel. Cores that count leading zeros (clz) go from one such weight to the next; others look at each
bit.
"""

from __future__ import annotations

import re

from graphopt.targets.firmware.c_preamble import INLINE

WORD = 32

_NAME = re.compile(r"(short_)?sparse_products_(\d+)x(\d+)")


def sparse_tile_of(name: str) -> tuple[int, int] | None:
    """Pixels and channels of the tile that such a function is for; None for any other name."""
    found = _NAME.fullmatch(name)
    return (int(found[2]), int(found[3])) if found else None


def sparse_products(name: str) -> str | None:
    """The definition of such a function; None for any other name."""
    tile = sparse_tile_of(name)
    if tile is None:
        return None
    pixels, channels = tile
    kind = "int16_t" if name.startswith("short_") else "int8_t"
    places = [{0: "0", 1: "step"}.get(p, f"{p} * step") for p in range(pixels)]
    added = [f"s{p} += at[{place}] * weight;" for p, place in enumerate(places)]
    return "\n".join(
        [
            f"{INLINE} void {name}(",
            f"    int32_t *sums, const {kind} *x, int32_t step, const int8_t *weights, int32_t number,",
            "    int32_t count) {",
            "    (void)step;",
            "    int32_t offset;",
            "    memcpy(&offset, weights + 4 * number, sizeof offset);",
            "    const int8_t *bits = weights + offset;",
            f"    const int8_t *values = bits + ((count + {WORD - 1}) >> 5) * {4 * channels};",
            f"    for (int32_t c = 0; c < {channels}; c++) {{",
            *(f"        int32_t s{p} = sums[{p * channels} + c];" for p in range(pixels)),
            f"        for (const {kind} *from = x, *const end = x + count; from < end; from += {WORD}, bits += 4) {{",
            f"            const {kind} *at = from;",
            "            uint32_t mask;",
            "            memcpy(&mask, bits, sizeof mask);",
            "#if defined(__GNUC__) && defined(__ARM_FEATURE_CLZ)",
            "            while (mask != 0) {",
            "                const int32_t skipped = __builtin_clz(mask), weight = *values++;",
            "                at += skipped;",
            *(f"                {line}" for line in added),
            "                at++;",
            "                mask <<= skipped;",
            "                mask <<= 1;",
            "            }",
            "#else",
            "            for (; mask != 0; mask <<= 1, at++) {",
            "                if (mask >> 31) {",
            "                    const int32_t weight = *values++;",
            *(f"                    {line}" for line in added),
            "                }",
            "            }",
            "#endif",
            "        }",
            *(f"        sums[{p * channels} + c] = s{p};" for p in range(pixels)),
            "    }",
            "}",
            "",
        ]
    )
