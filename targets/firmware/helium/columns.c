/* Pixels side by side: `bytes` of each of `columns` pixels, which are `step` apart, to places `to_step` apart. */
static void helium_columns(const int8_t *from, int32_t step, int8_t *to, int32_t to_step, int32_t bytes,
                           int32_t columns) {
#if HELIUM
    for (; bytes > 0; bytes -= 16, from += 16, to += 16) {
        const mve_pred16_t inside = vctp8q((uint32_t)bytes);
        const int8_t *x = from;
        int8_t *y = to;
        for (int32_t column = columns; column > 0; column--, x += step, y += to_step)
            vstrbq_p_s8(y, vldrbq_z_s8(x, inside), inside);
    }
#else
    for (int32_t column = 0; column < columns; column++)
        for (int32_t byte = 0; byte < bytes; byte++) to[column * to_step + byte] = from[column * step + byte];
#endif
}
