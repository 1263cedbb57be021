#if HELIUM
HELIUM_FUNCTION helium_KIND_three_pixels(const struct helium_tile *tile __attribute__((unused))) {
    __asm__ volatile(
        HELIUM_ENTER
        "add r3, r1, r2\n add r5, r3, r2\n strd r1, r3, [sp]\n str r5, [sp, #8]\n"
        HELIUM_BLOCK HELIUM_KIND_MASK
        "2: ldrd r1, r3, [sp]\n ldr r5, [sp, #8]\n"
        "ldrd r0, r2, [r12], #8\n mov r4, r0\n mov r6, r2\n mov r8, r0\n mov r10, r2\n"
        "dlstp.8 lr, r9\n"
        "3: " HELIUM_LOADED("r1") HELIUM_KIND_WEIGHTS("r7", "r0", "r2")
        HELIUM_LOADED("r3") HELIUM_TIMES_TWO("r4", "r6")
        HELIUM_LOADED("r5") HELIUM_TIMES_TWO("r8", "r10")
        "letp lr, 3b\n"
        "strd r0, r2, [r11], #8\n strd r4, r6, [r11, #56]\n strd r8, r10, [r11, #120]\n"
        "ldr r0, [sp, #12]\n cmp r11, r0\n blo 2b\n"
        HELIUM_LEAVE("3", HELIUM_KIND_SUMS));
}

HELIUM_FUNCTION helium_KIND_two_pixels(const struct helium_tile *tile __attribute__((unused))) {
    __asm__ volatile(
        HELIUM_ENTER
        "add r3, r1, r2\n strd r1, r3, [sp]\n"
        HELIUM_BLOCK HELIUM_KIND_MASK
        "ldr r5, [sp, #12]\n"
        "2: ldrd r1, r3, [sp]\n"
        "ldrd r0, r2, [r12], #8\n mov r4, r0\n mov r6, r2\n"
        "dlstp.8 lr, r9\n"
        "3: " HELIUM_LOADED("r1") HELIUM_KIND_WEIGHTS("r7", "r0", "r2")
        HELIUM_LOADED("r3") HELIUM_TIMES_TWO("r4", "r6")
        "letp lr, 3b\n"
        "strd r0, r2, [r11], #8\n strd r4, r6, [r11, #56]\n"
        "cmp r11, r5\n blo 2b\n"
        HELIUM_LEAVE("2", HELIUM_KIND_SUMS));
}

/* Four channels: r7 and r5 are two pairs of them, r3 what is between those. */
HELIUM_FUNCTION helium_KIND_one_pixel(const struct helium_tile *tile __attribute__((unused))) {
    __asm__ volatile(
        HELIUM_ENTER
        "add r3, r9, #15\n bic r3, r3, #15\n" HELIUM_KIND_STEP "strd r1, r3, [sp]\n"
        HELIUM_BLOCK HELIUM_KIND_MASK
        "ldr r3, [sp, #4]\n add r5, r7, r3\n mov r8, r0\n ldr r10, [sp]\n"
        "2: mov r1, r10\n"
        "ldrd r0, r2, [r12], #8\n ldrd r4, r6, [r12], #8\n"
        "dlstp.8 lr, r9\n"
        "3: " HELIUM_LOADED("r1") HELIUM_KIND_WEIGHTS("r7", "r0", "r2")
        HELIUM_KIND_WEIGHTS("r5", "r4", "r6")
        "letp lr, 3b\n"
        "strd r0, r2, [r11], #8\n strd r4, r6, [r11], #8\n"
        "mov r7, r5\n add r5, r3\n cmp r11, r8\n blo 2b\n"
        HELIUM_LEAVE("1", HELIUM_KIND_SUMS));
}
#else
static void helium_KIND_one_pixel(const struct helium_tile *tile) {
    const int32_t vectors = (tile->depth + 15) / 16;
    int8_t *bytes = tile->y;
    int32_t *sums = tile->y;
    for (int32_t c = 0; c < tile->channels; c++) {
        const int32_t *numbers = tile->numbers + c / HELIUM_CHANNELS * HELIUM_NUMBERS;
        int32_t sum = numbers[c % 16];
        for (int32_t k = 0; k < tile->depth; k++) sum += tile->x[k] * HELIUM_KIND_WEIGHT(tile->w, vectors, c, k);
        sum >>= HELIUM_KIND_SHIFT;
        const int32_t multiplier = numbers[16 + c % 4 * 4 + c % 16 / 4];
        if (tile->end == HELIUM_SUMS) {
            sums[c] = sum;
        } else {
            bytes[c] = helium_byte(sum, multiplier, tile->zero_point, tile->low, tile->high);
        }
    }
}
#endif

/* All tiles of some pixels, from the one that is given on. */
static void helium_KIND_tiles(struct helium_tile *tile, int32_t pixels) {
    while (pixels > 0) {
#if HELIUM
        const int32_t taken = pixels == 1 ? 1 : pixels == 2 || pixels == 4 ? 2 : 3;
        if (taken == 3) helium_KIND_three_pixels(tile);
        else if (taken == 2) helium_KIND_two_pixels(tile);
        else helium_KIND_one_pixel(tile);
#else
        const int32_t taken = 1;
        helium_KIND_one_pixel(tile);
#endif
        pixels -= taken;
        if (pixels <= 0) break; /* no pointer goes beyond the last pixel */
        tile->x += taken * tile->step;
        tile->y = (int8_t *)tile->y + taken * tile->y_step;
    }
}
