static inline int8_t words_mean(int32_t sum, int32_t multiplier, int32_t zero_point, int32_t low, int32_t high) {
    const int32_t mean = words_byte(words_scaled(sum, multiplier, zero_point));
    return (int8_t)(mean < low ? low : mean > high ? high : mean);
}

/* Means: `start` and the sums of `rows` by `columns` pixels, multiplied by multiplier / 2^32. With the DSP extension
 * two channels are added in the halves of a word, which hold the sums of 255 pixels. */
static void words_sum_pool(const int8_t *x, int32_t row_step, int32_t step, int32_t rows, int32_t columns,
                           int32_t channels, int32_t start, int32_t multiplier, int8_t *y, int32_t zero_point,
                           int32_t low, int32_t high) {
#if WORDS_DSP
    for (; channels > 3 && columns < 256; channels -= 4, x += 4, y += 4) {
        const int8_t *line = x;
        int32_t a = start, b = start, c = start, d = start, left = rows;
        do {
            int32_t even = 0, odd = 0;
            for (int32_t room = 255; left > 0 && room >= columns; left--, room -= columns, line += row_step) {
                const int8_t *from = line;
                for (int32_t column = columns; column > 0; column--, from += step) {
                    int32_t word;
                    memcpy(&word, from, sizeof word);
                    __asm__("sxtab16 %0, %0, %2\n sxtab16 %1, %1, %2, ror #8" : "+&r"(even), "+r"(odd) : "r"(word));
                }
            }
            a += (int16_t)even, b += (int16_t)odd, c += even >> 16, d += odd >> 16;
        } while (left > 0);
        y[0] = words_mean(a, multiplier, zero_point, low, high);
        y[1] = words_mean(b, multiplier, zero_point, low, high);
        y[2] = words_mean(c, multiplier, zero_point, low, high);
        y[3] = words_mean(d, multiplier, zero_point, low, high);
    }
#endif
    for (int32_t channel = 0; channel < channels; channel++) {
        const int8_t *line = x + channel;
        int32_t sum = start;
        for (int32_t row = rows; row > 0; row--, line += row_step) {
            const int8_t *from = line;
            for (int32_t column = columns; column > 0; column--, from += step) sum += *from;
        }
        y[channel] = words_mean(sum, multiplier, zero_point, low, high);
    }
}
