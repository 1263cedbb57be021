/* The largest of `rows` by `columns` pixels, for each channel; four channels are compared at once. */
static void words_max_pool(const int8_t *x, int32_t row_step, int32_t step, int32_t rows, int32_t columns,
                           int32_t channels, int8_t *y) {
#if WORDS_DSP
    for (; channels > 3; channels -= 4, x += 4, y += 4) {
        const int8_t *line = x;
        int32_t largest = -2139062144, word, difference; /* -128 in every byte */
        for (int32_t row = rows; row > 0; row--, line += row_step) {
            const int8_t *from = line;
            for (int32_t column = columns; column > 0; column--, from += step) {
                memcpy(&word, from, sizeof word);
                __asm__("ssub8 %1, %0, %2\n sel %0, %0, %2" : "+&r"(largest), "=&r"(difference) : "r"(word) : "cc");
            }
        }
        memcpy(y, &largest, sizeof largest);
    }
#endif
    for (int32_t c = 0; c < channels; c++) {
        int8_t largest = -128;
        const int8_t *line = x + c;
        for (int32_t row = rows; row > 0; row--, line += row_step) {
            const int8_t *from = line;
            for (int32_t column = columns; column > 0; column--, from += step)
                largest = *from > largest ? *from : largest;
        }
        y[c] = largest;
    }
}
