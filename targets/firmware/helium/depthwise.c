/* Depthwise convolution of up to 16 channels along a row: the windows, `taps` by 16 bytes each, are `step` apart.
 *
 * `packed` has 16 starts and 16 multipliers, both in the order 0 4 8 12 2 6 10 14 1 5 9 13 3 7 11 15, then the weights as
 * [tap][16]. Two products of bytes fit 16 bits, unless both weights are -128, which nobody may give: a pair of taps is
 * added there before it is widened.
 */
static void helium_depthwise(const int8_t *x, int32_t step, int32_t pixels, const int32_t *packed, int32_t taps,
                             int32_t channels, int8_t *y, int32_t y_step, int32_t zero_point, int32_t low,
                             int32_t high) {
#if HELIUM
    const mve_pred16_t inside = vctp8q((uint32_t)channels);
    for (; pixels > 0; pixels--, x += step, y += y_step) {
        int32x4_t a = vldrwq_s32(packed), b = vldrwq_s32(packed + 4);
        int32x4_t c = vldrwq_s32(packed + 8), d = vldrwq_s32(packed + 12);
        const int8_t *from = x, *w = (const int8_t *)(packed + HELIUM_NUMBERS);
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
            : [a] "+w"(a), [b] "+w"(b), [c] "+w"(c), [d] "+w"(d), [x] "+r"(from), [w] "+r"(w)
            : [pairs] "r"(taps / 2)
            : "lr", "q4", "q5", "q6", "q7", "memory");
        if (taps % 2) {
            const int8x16_t last = vldrbq_s8(from), weights = vldrbq_s8(w);
            const int16x8_t even = vmullbq_int_s8(last, weights), odd = vmulltq_int_s8(last, weights);
            a = vaddq_s32(a, vmovlbq_s16(even));
            b = vaddq_s32(b, vmovltq_s16(even));
            c = vaddq_s32(c, vmovlbq_s16(odd));
            d = vaddq_s32(d, vmovltq_s16(odd));
        }
        a = vrmulhq_s32(a, vldrwq_s32(packed + 16));
        b = vrmulhq_s32(b, vldrwq_s32(packed + 20));
        c = vrmulhq_s32(c, vldrwq_s32(packed + 24));
        d = vrmulhq_s32(d, vldrwq_s32(packed + 28));
        const int16x8_t zero = vdupq_n_s16((int16_t)zero_point);
        const int16x8_t even = vqaddq_s16(vqmovntq_s32(vqmovnbq_s32(zero, a), b), zero);
        const int16x8_t odd = vqaddq_s16(vqmovntq_s32(vqmovnbq_s32(zero, c), d), zero);
        int8x16_t bytes = vqmovntq_s16(vqmovnbq_s16(vdupq_n_s8(0), even), odd);
        bytes = vminq_s8(vmaxq_s8(bytes, vdupq_n_s8((int8_t)low)), vdupq_n_s8((int8_t)high));
        vstrbq_p_s8(y, bytes, inside);
    }
#else
    for (; pixels > 0; pixels--, x += step, y += y_step) {
        const int8_t *w = (const int8_t *)(packed + HELIUM_NUMBERS);
        for (int32_t c = 0; c < channels; c++) {
            const int32_t at = c % 2 * 8 + c % 4 / 2 * 4 + c / 4;
            int32_t sum = packed[at];
            for (int32_t t = 0; t < taps; t++) sum += x[t * 16 + c] * w[t * 16 + c];
            y[c] = helium_byte(sum, packed[16 + at], zero_point, low, high);
        }
    }
#endif
}
