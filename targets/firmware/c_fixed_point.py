"""Requantisation in fixed point as C functions; `graphopt/runtime/fixed_point.py` has the definition.

high_product(x, multiplier)              (x multiplier + 2^31) >> 32: smmulr with the DSP extension
high_product_plus(x, multiplier, zero)   the same plus the zero point: smmlar
narrow_int8(x)                           cut to the range of the type: ssat; narrow_uint8: usat
"""

from __future__ import annotations

HAS_DSP = "defined(__GNUC__) && defined(__ARM_FEATURE_DSP)"
HAS_SATURATION = "defined(__GNUC__) && defined(__ARM_FEATURE_SAT)"

HIGH_PRODUCT = f"""\
static inline int32_t high_product(int32_t x, int32_t multiplier) {{
#if {HAS_DSP}
    int32_t made;
    __asm__("smmulr %0, %1, %2" : "=r"(made) : "r"(x), "r"(multiplier));
    return made;
#else
    return (int32_t)(((int64_t)x * multiplier + 2147483648LL) >> 32);
#endif
}}
"""

HIGH_PRODUCT_PLUS = f"""\
static inline int32_t high_product_plus(int32_t x, int32_t multiplier, int32_t zero) {{
#if {HAS_DSP}
    int32_t made;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(made) : "r"(x), "r"(multiplier), "r"(zero));
    return made;
#else
    return (int32_t)(((int64_t)x * multiplier + (zero * 4294967296LL + 2147483648LL)) >> 32);
#endif
}}
"""


def fixed_point(name: str) -> str | None:
    """The definition of such a function; None for any other name."""
    if name == "narrow_int8":
        return _narrow(name, "ssat", -128, 127)
    if name == "narrow_uint8":
        return _narrow(name, "usat", 0, 255)
    return {"high_product": HIGH_PRODUCT, "high_product_plus": HIGH_PRODUCT_PLUS}.get(name)


def _narrow(name: str, instruction: str, low: int, high: int) -> str:
    return f"""\
static inline int32_t {name}(int32_t x) {{
#if {HAS_SATURATION}
    int32_t made;
    __asm__("{instruction} %0, #8, %1" : "=r"(made) : "r"(x));
    return made;
#else
    return x < {low} ? {low} : x > {high} ? {high} : x;
#endif
}}
"""
