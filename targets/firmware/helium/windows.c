/* Windows of 16 channels, `taps` by 16 bytes, each channel times its own weights.
 *
 * What is packed has 16 starts and 16 multipliers, both in the order 0 4 8 12 2 6 10 14 1 5 9 13 3 7 11 15, then the
 * weights as [tap][16]. Two products of bytes fit 16 bits, unless both weights are -128, which nobody may give: a pair of
 * taps is added there before it is widened. The second operand of a pair is loaded twice, for want of a register.
 */
#if HELIUM
/* q0 to q3 from the starts at `packed`, then sums of the taps of which half are in lr, and one more if carry is set. */
#define HELIUM_WINDOW(packed, x, w)                                                         \
    "vldrw.32 q0, [" packed "]\n vldrw.32 q1, [" packed ", #16]\n"                          \
    "vldrw.32 q2, [" packed ", #32]\n vldrw.32 q3, [" packed ", #48]\n"                     \
    "wls lr, lr, 3f\n"                                                                      \
    "2: vldrb.8 q4, [" x "], #16\n vldrb.8 q5, [" w "], #16\n"                              \
    "vmullb.s8 q6, q4, q5\n vmullt.s8 q7, q4, q5\n"                                         \
    "vldrb.8 q4, [" x "]\n vldrb.8 q5, [" w "], #16\n"                                      \
    "vmullb.s8 q4, q4, q5\n vadd.i16 q6, q6, q4\n"                                          \
    "vldrb.8 q4, [" x "], #16\n vmullt.s8 q4, q4, q5\n vadd.i16 q7, q7, q4\n"               \
    HELIUM_WIDENED                                                                          \
    "le lr, 2b\n"                                                                           \
    "3: bcc 4f\n"                                                                           \
    "vldrb.8 q4, [" x "]\n vldrb.8 q5, [" w "]\n"                                           \
    "vmullb.s8 q6, q4, q5\n vmullt.s8 q7, q4, q5\n"                                         \
    HELIUM_WIDENED                                                                          \
    "4:\n"
#define HELIUM_WIDENED                                                                      \
    "vmovlb.s16 q4, q6\n vadd.i32 q0, q0, q4\n vmovlt.s16 q5, q6\n vadd.i32 q1, q1, q5\n"   \
    "vmovlb.s16 q4, q7\n vadd.i32 q2, q2, q4\n vmovlt.s16 q5, q7\n vadd.i32 q3, q3, q5\n"
#define HELIUM_VECTORS "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7"
#else
/* Where the numbers of a channel are. */
static inline int32_t helium_place(int32_t channel) {
    return channel % 2 * 8 + channel % 4 / 2 * 4 + channel / 4;
}

static inline int32_t helium_window(const int8_t *x, const int32_t *packed, int32_t taps, int32_t channel) {
    const int8_t *w = (const int8_t *)(packed + HELIUM_NUMBERS);
    int32_t sum = packed[helium_place(channel)];
    for (int32_t tap = 0; tap < taps; tap++) sum += x[tap * 16 + channel] * w[tap * 16 + channel];
    return sum;
}
#endif
