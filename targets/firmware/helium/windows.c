/* Windows of 16 channels, `taps` by 16 bytes, each channel times its own weights.
 *
 * What is packed has 16 starts and 16 multipliers, both in the order 0 4 8 12 2 6 10 14 1 5 9 13 3 7 11 15, then the
 * weights as [tap][16]. Two products of bytes fit 16 bits, unless both weights are -128, which nobody may give: a pair of
 * taps is added there before it is widened.
 */
#if HELIUM
static inline int32x4x4_t helium_window(const int8_t *x, const int32_t *packed, int32_t taps) {
    int32x4_t a = vldrwq_s32(packed), b = vldrwq_s32(packed + 4);
    int32x4_t c = vldrwq_s32(packed + 8), d = vldrwq_s32(packed + 12);
    const int8_t *w = (const int8_t *)(packed + HELIUM_NUMBERS);
    __asm__ volatile(
        "wls lr, %[pairs], 2f\n"
        "1: vldrb.8 q4, [%[x]], #16\n vldrb.8 q5, [%[w]], #16\n"
        "vmullb.s8 q6, q4, q5\n vmullt.s8 q7, q4, q5\n"
        "vldrb.8 q4, [%[x]]\n vldrb.8 q5, [%[w]], #16\n"
        "vmullb.s8 q4, q4, q5\n vadd.i16 q6, q6, q4\n"
        "vldrb.8 q4, [%[x]], #16\n vmullt.s8 q4, q4, q5\n vadd.i16 q7, q7, q4\n"
        "vmovlb.s16 q4, q6\n vadd.i32 %q[a], %q[a], q4\n vmovlt.s16 q5, q6\n vadd.i32 %q[b], %q[b], q5\n"
        "vmovlb.s16 q4, q7\n vadd.i32 %q[c], %q[c], q4\n vmovlt.s16 q5, q7\n vadd.i32 %q[d], %q[d], q5\n"
        "le lr, 1b\n"
        "2:\n"
        : [a] "+w"(a), [b] "+w"(b), [c] "+w"(c), [d] "+w"(d), [x] "+r"(x), [w] "+r"(w)
        : [pairs] "r"(taps / 2)
        : "lr", "q4", "q5", "q6", "q7", "memory");
    if (taps % 2) {
        const int8x16_t last = vldrbq_s8(x), weights = vldrbq_s8(w);
        const int16x8_t even = vmullbq_int_s8(last, weights), odd = vmulltq_int_s8(last, weights);
        a = vaddq_s32(a, vmovlbq_s16(even));
        b = vaddq_s32(b, vmovltq_s16(even));
        c = vaddq_s32(c, vmovlbq_s16(odd));
        d = vaddq_s32(d, vmovltq_s16(odd));
    }
    return (int32x4x4_t){{a, b, c, d}};
}
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
