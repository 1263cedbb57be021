/* The same sums as they are, of all 16 channels. */
static void helium_depthwise_sums(const int8_t *x, int32_t step, int32_t pixels, const int32_t *packed, int32_t taps,
                                  int32_t *sums) {
    for (; pixels > 0; pixels--, x += step, sums += HELIUM_CHANNELS) {
#if HELIUM
        const int32x4x4_t made = helium_window(x, packed, taps);
        const int32x4x4_t in_order = {{made.val[0], made.val[2], made.val[1], made.val[3]}};
        vst4q_s32(sums, in_order);
#else
        for (int32_t c = 0; c < HELIUM_CHANNELS; c++) sums[c] = helium_window(x, packed, taps, c);
#endif
    }
}
