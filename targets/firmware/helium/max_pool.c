/* The largest of `rows` by `columns` pixels, for each channel. */
static void helium_max_pool(const int8_t *x, int32_t row_step, int32_t step, int32_t rows, int32_t columns,
                            int32_t channels, int8_t *y) {
#if HELIUM
    for (; channels > 0; channels -= 16, x += 16, y += 16) {
        const mve_pred16_t inside = vctp8q((uint32_t)channels);
        int8x16_t largest = vdupq_n_s8(-128);
        for (int32_t row = 0; row < rows; row++) {
            const int8_t *from = x + row * row_step;
            for (int32_t column = columns; column > 0; column--, from += step)
                largest = vmaxq_s8(largest, vldrbq_z_s8(from, inside));
        }
        vstrbq_p_s8(y, largest, inside);
    }
#else
    for (int32_t c = 0; c < channels; c++) {
        int8_t largest = -128;
        for (int32_t row = 0; row < rows; row++)
            for (int32_t column = 0; column < columns; column++) {
                const int8_t value = x[row * row_step + column * step + c];
                largest = value > largest ? value : largest;
            }
        y[c] = largest;
    }
#endif
}
