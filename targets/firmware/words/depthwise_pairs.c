static inline int32_t words_word(const void *from) {
    int32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

/* Every other byte as 16 bits, from the first on; from the second on. */
static inline int32_t words_even(int32_t word) {
    __asm__("sxtb16 %0, %1" : "=r"(word) : "r"(word));
    return word;
}

static inline int32_t words_odd(int32_t word) {
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(word) : "r"(word));
    return word;
}

/* The lower halves of a and b, a's first; the upper halves. */
static inline int32_t words_lower(int32_t a, int32_t b) {
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(a) : "r"(a), "r"(b));
    return a;
}

static inline int32_t words_upper(int32_t a, int32_t b) {
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(a) : "r"(b), "r"(a));
    return a;
}

/* The lower half of a, then the upper half of b. */
static inline int32_t words_outer(int32_t a, int32_t b) {
    __asm__("pkhbt %0, %1, %2" : "=r"(a) : "r"(a), "r"(b));
    return a;
}

/* Products of both halves, added to a sum. */
static inline int32_t words_both(int32_t a, int32_t b, int32_t sum) {
    __asm__("smlad %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(sum));
    return sum;
}

/* The first of two pixels of four channels, or the second, beside a number. */
static inline void words_depthwise_first(int32_t *to, int32_t plane, int32_t pixel, int32_t second) {
    const int32_t even = words_even(pixel), odd = words_odd(pixel);
    to[0] = words_outer(even, second);
    to[plane] = words_outer(odd, second);
    to[2 * plane] = words_upper(even, second);
    to[3 * plane] = words_upper(odd, second);
}

static inline void words_depthwise_second(int32_t *to, int32_t plane, int32_t pixel, int32_t first) {
    const int32_t even = words_even(pixel), odd = words_odd(pixel);
    to[0] = words_lower(first, even);
    to[plane] = words_lower(first, odd);
    to[2 * plane] = words_outer(first, even);
    to[3 * plane] = words_outer(first, odd);
}

/* Rows of the image, four channels into a plane each: two pixels at a time, where pairs of the plane begin. */
static void words_depthwise_four(int32_t *planes, const int8_t *x, int32_t rows, int32_t line,
                                 const struct words_depthwise *layer) {
    const int32_t plane = layer->plane / 2, height = layer->height, step = layer->channels;
    const int32_t columns = words_columns(layer), zero = words_lower(layer->x_zero_point, layer->x_zero_point);
    const int32_t odd = layer->left & 1 && columns > 0, pairs = (columns - odd) / 2, last = (columns - odd) & 1;
    line -= columns * step;
    planes += layer->left / 2 * height;
    for (; rows > 0; rows--, planes++, x += line) {
        int32_t *to = planes;
        if (odd) {
            words_depthwise_second(to, plane, words_word(x), zero);
            to += height, x += step;
        }
        for (int32_t pair = pairs; pair > 0; pair--, to += height) {
            const int32_t a = words_word(x), b = words_word(x + step);
            const int32_t lower = words_lower(a, b), upper = words_upper(a, b);
            x += 2 * step;
            to[0] = words_even(lower);
            to[plane] = words_odd(lower);
            to[2 * plane] = words_even(upper);
            to[3 * plane] = words_odd(upper);
        }
        if (last) {
            words_depthwise_first(to, plane, words_word(x), zero);
            x += step;
        }
    }
}

/* Of three taps the first two; the last two. */
static inline int32_t words_first(int32_t taps) {
    return words_lower(words_even(taps), words_odd(taps));
}

static inline int32_t words_second(int32_t taps) {
    return words_outer(words_odd(taps), words_even(taps));
}

/* A row of a window: of two outputs, of one. All taps are in registers, and one word of a plane: the compiler would
 * load all words of a window first and put taps aside for them. */
#define WORDS_TWO_OUTPUTS(offset, first, second)                                                                     \
    __asm__("ldr %2, [%3, #" offset "]\n smlatb %1, %2, %5, %1\n smlad %0, %2, %5, %0\n"                             \
            "ldr %2, [%4, #" offset "]\n smlad %1, %2, %6, %1\n smlabt %0, %2, %6, %0\n"                             \
            : "+&r"(one), "+&r"(two), "=&r"(word)                                                                    \
            : "r"(from), "r"(other), "r"(first), "r"(second)                                                         \
            : "memory")
#define WORDS_ONE_OUTPUT(offset, first, second)                                                                      \
    __asm__("ldr %1, [%2, #" offset "]\n smlad %0, %1, %4, %0\n ldr %1, [%3, #" offset "]\n smlabt %0, %1, %5, %0\n"  \
            : "+&r"(one), "=&r"(word)                                                                                \
            : "r"(from), "r"(other), "r"(first), "r"(second)                                                         \
            : "memory")

/* Kernels of three by three. */
__attribute__((noinline)) static void words_depthwise_three(int8_t *y, const int16_t *plane,
                                                            const struct words_filter *filter, int32_t rows,
                                                            int32_t line,
                                                            const struct words_depthwise *layer) {
    const int32_t a0 = words_first(filter->taps[0]), a1 = words_second(filter->taps[0]);
    const int32_t b0 = words_first(filter->taps[1]), b1 = words_second(filter->taps[1]);
    const int32_t c0 = words_first(filter->taps[2]), c1 = words_second(filter->taps[2]);
    const int32_t step = layer->channels * layer->filters;
    const int32_t *pair = (const int32_t *)(const void *)plane;
    int32_t left = layer->made_columns;
    if (layer->stride == 1) {
        for (; left > 1; left -= 2, y += 2 * step) {
            const int32_t *from = pair, *other = pair += layer->height;
            int8_t *to = y, *const end = y + rows * line;
            do {
                int32_t one = filter->start, two = one, word;
                WORDS_TWO_OUTPUTS("0", a0, a1);
                WORDS_TWO_OUTPUTS("4", b0, b1);
                WORDS_TWO_OUTPUTS("8", c0, c1);
                from++, other++;
                const int32_t multiplier = filter->multiplier, zero_point = layer->zero_point;
                to[0] = words_byte(words_scaled(one, multiplier, zero_point));
                to[step] = words_byte(words_scaled(two, multiplier, zero_point));
                to += line;
            } while (to != end);
        }
    }
    const int32_t pace = layer->stride;
    for (; left > 0; left--, y += step) {
        const int32_t *from = pair, *other = pair += layer->height;
        int8_t *to = y, *const end = y + rows * line;
        do {
            int32_t one = filter->start, word;
            WORDS_ONE_OUTPUT("0", a0, a1);
            WORDS_ONE_OUTPUT("4", b0, b1);
            WORDS_ONE_OUTPUT("8", c0, c1);
            from += pace, other += pace;
            *to = words_byte(words_scaled(one, filter->multiplier, layer->zero_point));
            to += line;
        } while (to != end);
    }
}

/* A tap of a row, or zero where there is none. */
static inline int32_t words_tap(const int8_t *row, int32_t tap, int32_t count) {
    return tap >= 0 && tap < count ? row[tap] : 0;
}

/* Taps two by two as they meet the words of a plane, from top to bottom: for a window that begins with a word, then for
 * one that begins in the middle of it. */
static void words_depthwise_taps(int32_t *pairs, const struct words_filter *filter,
                                 const struct words_depthwise *layer) {
    const int32_t count = layer->kernel_columns, bytes = (count + 3) / 4 * 4;
    for (int32_t tap = 0; tap <= count; tap += 2) {
        const int8_t *row = (const int8_t *)filter->taps;
        for (int32_t rows = layer->kernel_rows; rows > 0; rows--, row += bytes, pairs += 2) {
            const int32_t middle = words_tap(row, tap, count);
            pairs[0] = words_lower(middle, words_tap(row, tap + 1, count));
            pairs[1] = words_lower(words_tap(row, tap - 1, count), middle);
        }
    }
}

/* Kernels of any size whose taps along a row have no gaps. */
__attribute__((noinline)) static void words_depthwise_gapless(int8_t *y, const int16_t *plane,
                                                              const struct words_filter *filter, int32_t *pairs,
                                                              int32_t rows, const struct words_depthwise *layer) {
    const int32_t step = layer->channels * layer->filters, below = layer->row_dilation, height = layer->height;
    const int32_t *line = (const int32_t *)(const void *)plane, *const end = pairs + 2 * layer->kernel_rows;
    const int32_t last = 2 * layer->kernel_rows * (layer->kernel_columns / 2);
    words_depthwise_taps(pairs, filter, layer);
    for (; rows > 0; rows--, line += layer->row_stride) {
        int32_t place = 0, left = layer->made_columns;
        for (; layer->stride == 1 && left > 1; left -= 2, place += 2, y += 2 * step) {
            const int32_t *words = line + place / 2 * height, *taps = pairs;
            int32_t one = filter->start, two = one;
            for (const int32_t *to = end; to <= end + last; to += end - pairs, words += height) {
                const int32_t *from = words;
                do {
                    int32_t word, even, odd;
                    __asm__("ldr %2, [%6]\n ldrd %3, %4, [%5], #8\n smlad %0, %2, %3, %0\n smlad %1, %2, %4, %1\n"
                            : "+&r"(one), "+&r"(two), "=&r"(word), "=&r"(even), "=&r"(odd), "+&r"(taps)
                            : "r"(from)
                            : "memory");
                    from += below;
                } while (taps != to);
            }
            y[0] = words_byte(words_scaled(one, filter->multiplier, layer->zero_point));
            y[step] = words_byte(words_scaled(two, filter->multiplier, layer->zero_point));
        }
        for (; left > 0; left--, place += layer->stride, y += step) {
            const int32_t *words = line + place / 2 * height, *taps = pairs + (place & 1);
            int32_t sum = filter->start;
            for (const int32_t *to = end + (place & 1); to <= end + last + 1; to += end - pairs, words += height) {
                const int32_t *from = words;
                for (; taps != to; taps += 2, from += below) sum = words_both(*from, *taps, sum);
            }
            *y = words_byte(words_scaled(sum, filter->multiplier, layer->zero_point));
        }
    }
}
