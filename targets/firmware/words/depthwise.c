/* A layer, as it lies in front of its filters: columns and channels of the image, columns of what is made; sizes of the
 * kernel, its steps; columns left of the image; filters of each channel; rows and elements of a plane; zero points; the
 * range of what is made. */
struct words_depthwise {
    int32_t columns, channels, made_columns, kernel_rows, kernel_columns, row_stride, stride, row_dilation, dilation;
    int32_t left, filters, height, plane, x_zero_point, zero_point, low, high;
};

/* A filter: the start of its sums, their multiplier, and its taps, four to a word of each row. */
struct words_filter {
    int32_t start, multiplier, taps[1];
};

/* Columns of a plane lie one after the other, LANES of them in turn. */
static inline int32_t words_column(int32_t column, int32_t height) {
    return column / LANES * (LANES * height) + column % LANES;
}

/* Columns of the image that some window reads. */
static inline int32_t words_columns(const struct words_depthwise *layer) {
    const int32_t most = layer->plane / layer->height - layer->left;
    return layer->columns < most ? layer->columns : most;
}

/* Rows of one channel into its plane. */
static void words_depthwise_channel(KIND_t *plane, const int8_t *x, int32_t rows, int32_t line,
                                    const struct words_depthwise *layer) {
    const int32_t columns = words_columns(layer);
    for (; rows > 0; rows--, plane += LANES, x += line) {
        const int8_t *from = x;
        for (int32_t column = 0; column < columns; column++, from += layer->channels)
            plane[words_column(layer->left + column, layer->height)] = *from;
    }
}

/* One filter of any kernel: all outputs of some rows. */
static void words_depthwise_any(int8_t *y, const KIND_t *plane, const struct words_filter *filter, int32_t rows,
                                const struct words_depthwise *layer) {
    const int32_t step = layer->channels * layer->filters, below = layer->row_dilation * LANES;
    const int32_t words = (layer->kernel_columns + 3) / 4 * 4;
    const int8_t *const taps = (const int8_t *)filter->taps;
    for (; rows > 0; rows--, plane += layer->row_stride * LANES) {
        for (int32_t column = 0; column < layer->made_columns; column++, y += step) {
            int32_t sum = filter->start;
            for (int32_t k = 0; k < layer->kernel_columns; k++) {
                const int32_t place = column * layer->stride + k * layer->dilation;
                const KIND_t *from = plane + words_column(place, layer->height);
                const int8_t *tap = taps + k;
                for (int32_t row = layer->kernel_rows; row > 0; row--, from += below, tap += words) sum += *from * *tap;
            }
            *y = words_byte(words_scaled(sum, filter->multiplier, layer->zero_point));
        }
    }
}

/* Cuts what was made to the layer's range. */
static void words_depthwise_cut(int8_t *y, int32_t step, int32_t count, const struct words_depthwise *layer) {
    for (; count > 0; count--, y += step) {
        const int32_t value = *y < layer->low ? layer->low : *y;
        *y = (int8_t)(value > layer->high ? layer->high : value);
    }
}
