/* Sums of products and an image of bytes: sums 2^shift multiplier / 2^32 for each channel, plus factor x, plus offset, all
 * multiplied by `multiplier` / 2^32. `packed` has the multipliers of all channels and then their shifts. */
static void helium_add_sums(const int32_t *sums, int32_t row, const int32_t *packed, int32_t channels, int32_t pixels,
                            const int8_t *x, int32_t factor, int32_t offset, int32_t multiplier, int8_t *y,
                            int32_t zero_point, int32_t low, int32_t high) {
    const int32_t *shifts = packed + channels;
    for (; pixels > 0; pixels--, sums += row, x += channels, y += channels) {
#if HELIUM
        const int32x4_t multipliers = vdupq_n_s32(multiplier), lowest = vdupq_n_s32(low), highest = vdupq_n_s32(high);
        for (int32_t c = 0; c < channels; c += 4) {
            const mve_pred16_t inside = vctp32q((uint32_t)(channels - c));
            int32x4_t sum = vqshlq_s32(vldrwq_s32(sums + c), vldrwq_z_s32(shifts + c, inside));
            sum = vrmulhq_s32(sum, vldrwq_z_s32(packed + c, inside));
            sum = vaddq_n_s32(vmlaq_n_s32(sum, vldrbq_z_s32(x + c, inside), factor), offset);
            sum = vaddq_n_s32(vrmulhq_s32(sum, multipliers), zero_point);
            vstrbq_p_s32(y + c, vminq_s32(vmaxq_s32(sum, lowest), highest), inside);
        }
#else
        for (int32_t c = 0; c < channels; c++) {
            const int64_t shifted = (int64_t)sums[c] * ((int64_t)1 << shifts[c]);
            const int64_t cut = shifted < INT32_MIN ? INT32_MIN : shifted > INT32_MAX ? INT32_MAX : shifted;
            const int32_t sum = (int32_t)((cut * packed[c] + ((int64_t)1 << 31)) >> 32);
            y[c] = helium_byte(sum + x[c] * factor + offset, multiplier, zero_point, low, high);
        }
#endif
    }
}
