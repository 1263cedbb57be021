/* Helium, where the core has it and the compiler takes GNU's assembly; anything else runs plain C of the same results. */
#if defined(__GNUC__) && defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1)
#include <arm_mve.h>
#define HELIUM 1
#else
#define HELIUM 0
#endif

/* Sixteen channels: where their sums start, and what they are multiplied with. */
enum { HELIUM_CHANNELS = 16, HELIUM_NUMBERS = 32 };

/* x multiplier / 2^32 plus the zero point, rounded to nearest, ties up, and cut. */
static inline int8_t helium_byte(int32_t x, int32_t multiplier, int32_t zero_point, int32_t low, int32_t high) {
    const int64_t product = (int64_t)x * multiplier + ((int64_t)1 << 31);
    const int32_t y = (int32_t)(product >> 32) + zero_point;
    return (int8_t)(y < low ? low : y > high ? high : y);
}
