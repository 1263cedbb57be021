/* Instructions of Arm's DSP extension, where the compiler is told that the core has it; else the same in plain C. */
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && (__ARM_FEATURE_DSP & 1) && !defined(__ARM_BIG_ENDIAN)
#define WORDS_DSP 1
#else
#define WORDS_DSP 0
#endif

/* x multiplier / 2^32, rounded to nearest, ties up, plus the zero point. */
static inline int32_t words_scaled(int32_t x, int32_t multiplier, int32_t zero_point) {
#if WORDS_DSP
    int32_t y;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(y) : "r"(x), "r"(multiplier), "r"(zero_point));
    return y;
#elif defined(__ARM_ARCH_6M__) || defined(__ARM_ARCH_8M_BASE__)
    const uint32_t low = (uint32_t)x & 65535u, by = (uint32_t)multiplier & 65535u;
    const int32_t high = x >> 16, by_high = multiplier >> 16;
    const int32_t middle = high * (int32_t)by + (int32_t)(low * by >> 16);
    const uint32_t rest = low * (uint32_t)by_high + ((uint32_t)middle & 65535u) + 32768u;
    return high * by_high + (middle >> 16) + (int32_t)(rest >> 16) + zero_point;
#else
    return (int32_t)(((int64_t)x * multiplier + ((int64_t)1 << 31)) >> 32) + zero_point;
#endif
}

/* Cut to eight bits. */
static inline int8_t words_byte(int32_t x) {
#if WORDS_DSP
    __asm__("ssat %0, #8, %1" : "=r"(x) : "r"(x));
    return (int8_t)x;
#else
    return (int8_t)(x < -128 ? -128 : x > 127 ? 127 : x);
#endif
}
