/* The same for kernels of three by three, whose taps all have names. */
static void words_depthwise_three(int8_t *y, const KIND_t *plane, const struct words_filter *filter, int32_t rows,
                                  int32_t made_line, const struct words_depthwise *layer) {
    const int32_t step = layer->channels * layer->filters, height = layer->height, next = layer->row_stride * LANES;
    const int8_t *const t = (const int8_t *)filter->taps;
    const int32_t a0 = t[0], b0 = t[1], c0 = t[2], a1 = t[4], b1 = t[5], c1 = t[6], a2 = t[8], b2 = t[9], c2 = t[10];
    for (int32_t column = 0; column < layer->made_columns; column++, y += step) {
        const int32_t first = column * layer->stride;
        const KIND_t *a = plane + words_column(first, height), *b = plane + words_column(first + 1, height);
        const KIND_t *c = plane + words_column(first + 2, height);
        int8_t *to = y;
        for (int32_t row = rows; row > 0; row--, to += made_line) {
            int32_t sum = filter->start + a[0] * a0 + a[LANES] * a1 + a[2 * LANES] * a2;
            sum += b[0] * b0 + b[LANES] * b1 + b[2 * LANES] * b2;
            sum += c[0] * c0 + c[LANES] * c1 + c[2 * LANES] * c2;
            a += next, b += next, c += next;
            *to = words_byte(words_scaled(sum, filter->multiplier, layer->zero_point));
        }
    }
}
