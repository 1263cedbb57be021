/* Products of pixels with weights, requantised to bytes; `tile.c` tells what is packed. */
static void helium_KIND_product(const int8_t *x, int32_t step, int32_t pixels, const int32_t *packed, int32_t depth,
                           int32_t channels, int8_t *y, int32_t y_step, int32_t zero_point, int32_t low,
                           int32_t high) {
    const int32_t blocks = (channels + HELIUM_CHANNELS - 1) / HELIUM_CHANNELS;
    const int8_t *w = (const int8_t *)(packed + blocks * HELIUM_NUMBERS);
    const int32_t end = low > -128 || high < 127 ? HELIUM_CUT : HELIUM_BYTES;
    struct helium_tile tile = {x, step, w, depth, packed, y, y_step, channels, zero_point, end, low, high};
    helium_KIND_tiles(&tile, pixels);
}
