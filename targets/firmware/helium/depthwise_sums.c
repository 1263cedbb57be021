/* The same sums as they are, of all 16 channels. */
static void helium_depthwise_sums(const int8_t *x, int32_t step, int32_t pixels, const int32_t *packed, int32_t taps,
                                  int32_t *sums) {
    for (; pixels > 0; pixels--, x += step, sums += HELIUM_CHANNELS) {
#if HELIUM
        const int8_t *from = x, *w = (const int8_t *)(packed + HELIUM_NUMBERS);
        __asm__ volatile(
            "lsrs lr, %[taps], #1\n"
            HELIUM_WINDOW("%[packed]", "%[from]", "%[w]")
            "vmov q4, q1\n vmov q1, q2\n vmov q2, q4\n"
            "vst40.32 {q0, q1, q2, q3}, [%[sums]]\n vst41.32 {q0, q1, q2, q3}, [%[sums]]\n"
            "vst42.32 {q0, q1, q2, q3}, [%[sums]]\n vst43.32 {q0, q1, q2, q3}, [%[sums]]\n"
            : [from] "+&r"(from), [w] "+&r"(w)
            : [taps] "r"(taps), [packed] "r"(packed), [sums] "r"(sums)
            : "lr", HELIUM_VECTORS, "cc", "memory");
#else
        for (int32_t c = 0; c < HELIUM_CHANNELS; c++) sums[c] = helium_window(x, packed, taps, c);
#endif
    }
}
