/* The same sums as they are, in rows of `row` numbers, which has room for whole 16 channels. */
static void helium_KIND_sums(const int8_t *x, int32_t step, int32_t pixels, const int32_t *packed, int32_t depth,
                        int32_t channels, int32_t *sums, int32_t row) {
    const int32_t blocks = (channels + HELIUM_CHANNELS - 1) / HELIUM_CHANNELS;
    const int8_t *w = (const int8_t *)(packed + blocks * HELIUM_NUMBERS);
    struct helium_tile tile = {x, step, w, depth, packed, sums, row * 4, channels, 0, HELIUM_SUMS, 0, 0};
    helium_KIND_tiles(&tile, pixels);
}
