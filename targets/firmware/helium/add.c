/* Sums of two images of bytes: a_factor a + b_factor b + offset, multiplied by multiplier / 2^32; y may be a or b. */
static void helium_add(const int8_t *a, const int8_t *b, int32_t elements, int32_t a_factor, int32_t b_factor,
                       int32_t offset, int32_t multiplier, int8_t *y, int32_t zero_point, int32_t low, int32_t high) {
#if HELIUM
    const int32x4_t multipliers = vdupq_n_s32(multiplier), lowest = vdupq_n_s32(low), highest = vdupq_n_s32(high);
    for (; elements > 0; elements -= 4, a += 4, b += 4, y += 4) {
        const mve_pred16_t inside = vctp32q((uint32_t)elements);
        int32x4_t sum = vmulq_n_s32(vldrbq_z_s32(a, inside), a_factor);
        sum = vaddq_n_s32(vmlaq_n_s32(sum, vldrbq_z_s32(b, inside), b_factor), offset);
        sum = vaddq_n_s32(vrmulhq_s32(sum, multipliers), zero_point);
        vstrbq_p_s32(y, vminq_s32(vmaxq_s32(sum, lowest), highest), inside);
    }
#else
    for (int32_t i = 0; i < elements; i++)
        y[i] = helium_byte(a[i] * a_factor + b[i] * b_factor + offset, multiplier, zero_point, low, high);
#endif
}
