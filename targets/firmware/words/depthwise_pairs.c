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
