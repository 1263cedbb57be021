/* Depthwise convolution of bytes, channels-last: `made` rows from `rows` rows of the image, channel by channel in a
 * plane that has its columns one after the other, with the zero point around them and in `above` rows. `packed` is the
 * layer, then its filters. A row of the image has `line` bytes, one of what is made `made_line`. Behind the planes is
 * room for the taps of a filter. */
static void words_depthwise_KIND(int8_t *y, const int8_t *x, const int32_t *packed, KIND_t *planes, int32_t above,
                                 int32_t rows, int32_t line, int32_t made, int32_t made_line) {
    const struct words_depthwise *const layer = (const void *)packed;
    const int32_t *numbers = packed + sizeof *layer / sizeof *packed;
    const int32_t made_channels = layer->channels * layer->filters;
    const int32_t words = 2 + layer->kernel_rows * ((layer->kernel_columns + 3) / 4);
    const int is_three = layer->kernel_rows == 3 && layer->kernel_columns == 3 && layer->row_dilation == 1 &&
                         layer->dilation == 1 && layer->stride <= 2 && layer->row_stride == layer->stride;
#if WORDS_DSP && LANES == 2
    int32_t *const pairs = (int32_t *)(void *)(planes + 4 * layer->plane);
#endif
    const int is_cut = layer->low != -128 || layer->high != 127;
    for (int32_t i = 0; i < (LANES == 2 ? 4 : 1) * layer->plane; i++) planes[i] = (KIND_t)layer->x_zero_point;
    for (int32_t channel = 0, count; channel < layer->channels; channel += count, x += count) {
        const KIND_t *plane = planes;
        count = 1;
#if WORDS_DSP && LANES == 2
        if (layer->channels - channel >= 4) {
            count = 4;
            words_depthwise_four((int32_t *)(void *)planes + above, x, rows, line, layer);
        } else
#endif
            words_depthwise_channel(planes + above * LANES, x, rows, line, layer);
        for (int32_t c = 0; c < count; c++, plane += layer->plane) {
            for (int32_t filter = 0; filter < layer->filters; filter++, numbers += words, y++) {
                const struct words_filter *const taps = (const void *)numbers;
                if (is_three)
                    words_depthwise_three(y, plane, taps, made, made_line, layer);
#if WORDS_DSP && LANES == 2
                else if (layer->dilation == 1)
                    words_depthwise_gapless(y, plane, taps, pairs, made, layer);
#endif
                else
                    words_depthwise_any(y, plane, taps, made, layer);
                if (is_cut) words_depthwise_cut(y, made_channels, made * layer->made_columns, layer);
            }
        }
    }
}
