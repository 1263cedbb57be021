/* Depthwise convolution of up to 16 channels along a row, whose windows are `step` apart; `windows.c` tells what is
 * packed. */
static void helium_depthwise(const int8_t *x, int32_t step, int32_t pixels, const int32_t *packed, int32_t taps,
                             int32_t channels, int8_t *y, int32_t y_step, int32_t zero_point, int32_t low,
                             int32_t high) {
#if HELIUM
    const mve_pred16_t inside = vctp8q((uint32_t)channels);
    const int16x8_t zero = vdupq_n_s16((int16_t)zero_point);
    for (; pixels > 0; pixels--, x += step, y += y_step) {
        const int32x4x4_t sums = helium_window(x, packed, taps);
        const int32x4_t a = vrmulhq_s32(sums.val[0], vldrwq_s32(packed + 16));
        const int32x4_t b = vrmulhq_s32(sums.val[1], vldrwq_s32(packed + 20));
        const int32x4_t c = vrmulhq_s32(sums.val[2], vldrwq_s32(packed + 24));
        const int32x4_t d = vrmulhq_s32(sums.val[3], vldrwq_s32(packed + 28));
        const int16x8_t even = vqaddq_s16(vqmovntq_s32(vqmovnbq_s32(zero, a), b), zero);
        const int16x8_t odd = vqaddq_s16(vqmovntq_s32(vqmovnbq_s32(zero, c), d), zero);
        int8x16_t bytes = vqmovntq_s16(vqmovnbq_s16(vdupq_n_s8(0), even), odd);
        bytes = vminq_s8(vmaxq_s8(bytes, vdupq_n_s8((int8_t)low)), vdupq_n_s8((int8_t)high));
        vstrbq_p_s8(y, bytes, inside);
    }
#else
    for (; pixels > 0; pixels--, x += step, y += y_step) {
        for (int32_t c = 0; c < channels; c++) {
            const int32_t sum = helium_window(x, packed, taps, c);
            y[c] = helium_byte(sum, packed[16 + helium_place(c)], zero_point, low, high);
        }
    }
#endif
}
