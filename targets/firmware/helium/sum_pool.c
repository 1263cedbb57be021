/* Means: sums of `rows` by `columns` pixels, less the zero points, multiplied by multiplier / 2^32. At most 255 pixels
 * are added in 16 bits before they are widened. */
static void helium_sum_pool(const int8_t *x, int32_t row_step, int32_t step, int32_t rows, int32_t columns,
                            int32_t channels, int32_t start, int32_t multiplier, int8_t *y, int32_t zero_point,
                            int32_t low, int32_t high) {
#if HELIUM
    const int32x4_t multipliers = vdupq_n_s32(multiplier), lowest = vdupq_n_s32(low), highest = vdupq_n_s32(high);
    for (; channels > 0; channels -= 8, x += 8, y += 8) {
        const mve_pred16_t inside = vctp16q((uint32_t)channels);
        int32x4_t even = vdupq_n_s32(start), odd = even;
        for (int32_t row = 0; row < rows; row++) {
            const int8_t *from = x + row * row_step;
            for (int32_t left = columns; left > 0; left -= 255) {
                int16x8_t sum = vdupq_n_s16(0);
                for (int32_t column = left < 255 ? left : 255; column > 0; column--, from += step)
                    sum = vaddq_s16(sum, vldrbq_z_s16(from, inside));
                even = vaddq_s32(even, vmovlbq_s16(sum));
                odd = vaddq_s32(odd, vmovltq_s16(sum));
            }
        }
        even = vaddq_n_s32(vrmulhq_s32(even, multipliers), zero_point);
        odd = vaddq_n_s32(vrmulhq_s32(odd, multipliers), zero_point);
        const int16x8_t low_half = vqmovnbq_s32(vdupq_n_s16(0), vminq_s32(vmaxq_s32(even, lowest), highest));
        vstrbq_p_s16(y, vqmovntq_s32(low_half, vminq_s32(vmaxq_s32(odd, lowest), highest)), inside);
    }
#else
    for (int32_t c = 0; c < channels; c++) {
        int32_t sum = start;
        for (int32_t row = 0; row < rows; row++)
            for (int32_t column = 0; column < columns; column++) sum += x[row * row_step + column * step + c];
        y[c] = helium_byte(sum, multiplier, zero_point, low, high);
    }
#endif
}
