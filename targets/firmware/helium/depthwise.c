/* Depthwise convolution of up to 16 channels along a row, whose windows are `step` apart; `windows.c` tells what is
 * packed. */
static void helium_depthwise(const int8_t *x, int32_t step, int32_t pixels, const int32_t *packed, int32_t taps,
                             int32_t channels, int8_t *y, int32_t y_step, int32_t zero_point, int32_t low,
                             int32_t high) {
#if HELIUM
    const int32_t end[5] = {low, high, zero_point, low > -128 || high < 127, taps};
    const int8_t *w;
    __asm__ volatile(
        "vctp.8 %[from]\n"
        "1: ldr lr, [%[end], #16]\n lsrs lr, lr, #1\n mov %[from], %[x]\n add.w %[w], %[packed], #128\n"
        HELIUM_WINDOW("%[packed]", "%[from]", "%[w]")
        "vldrw.32 q4, [%[packed], #64]\n vrmulh.s32 q0, q0, q4\n"
        "vldrw.32 q5, [%[packed], #80]\n vrmulh.s32 q1, q1, q5\n"
        "vldrw.32 q6, [%[packed], #96]\n vrmulh.s32 q2, q2, q6\n"
        "vldrw.32 q7, [%[packed], #112]\n vrmulh.s32 q3, q3, q7\n"
        "vqmovnb.s32 q0, q0\n vqmovnt.s32 q0, q1\n vqmovnb.s32 q2, q2\n vqmovnt.s32 q2, q3\n"
        "ldrd %[from], %[w], [%[end], #8]\n"
        "vqadd.s16 q0, q0, %[from]\n vqadd.s16 q2, q2, %[from]\n"
        "vqmovnb.s16 q0, q0\n vqmovnt.s16 q0, q2\n"
        "cmp %[w], #0\n beq 5f\n ldrd %[from], %[w], [%[end]]\n"
        "vdup.8 q1, %[from]\n vmax.s8 q0, q0, q1\n vdup.8 q1, %[w]\n vmin.s8 q0, q0, q1\n"
        "5: vpst\n vstrbt.8 q0, [%[y]]\n"
        "add %[y], %[y_step]\n add %[x], %[step]\n subs %[pixels], #1\n bne 1b\n"
        : [x] "+&r"(x), [y] "+&r"(y), [pixels] "+&r"(pixels), [from] "+&r"(channels), [w] "=&r"(w)
        : [step] "r"(step), [packed] "r"(packed), [y_step] "r"(y_step), [end] "r"(end)
        : "lr", HELIUM_VECTORS, "cc", "memory");
#else
    for (; pixels > 0; pixels--, x += step, y += y_step) {
        for (int32_t c = 0; c < channels; c++) {
            const int32_t sum = helium_window(x, packed, taps, c);
            y[c] = helium_byte(sum, packed[16 + helium_place(c)], zero_point, low, high);
        }
    }
#endif
}
