/* Tiles of products of pixels with weights: the pixels are `depth` bytes each, `step` apart.
 *
 * What is packed begins with 32 numbers for every 16 channels: their starts, then their multipliers in the order 0 4 8 12 1 5
 * 9 13 2 6 10 14 3 7 11 15. Behind are the weights: [pair of channels][16 bytes of depth][2 channels][16], filled up with
 * zeros; channels are filled up to fours. Of 4 bits the second channel of a pair is in the lower halves of the first's bytes;
 * starts are 16 times as large, and so are sums up to where they are finished.
 *
 * A tile is 3 pixels by 2 channels (2 by 2, or 1 by 4 at the end): six sums in the even registers that VMLADAVA takes, a
 * pointer to each pixel in the odd ones, all weights by r7. A vector of each of both is loaded once for the tile. The
 * compiler would move sums to other registers and back, so the loops are written out. Sums of 16 channels go by memory,
 * from where VLD4 deals them out so that two narrowing moves put bytes in order; or they are copied as they are, where
 * what ends them is left to others. The result then has rows of whole 16 channels.
 *
 * The frame: pixels at sp, the end of the sums at 12, sums [pixel][16] at 16, then packed, y, channels left, the tile.
 */
struct helium_tile {
    const int8_t *x;
    int32_t step;
    const int8_t *w;
    int32_t depth;
    const int32_t *numbers;
    void *y; /* bytes or sums, `y_step` bytes from pixel to pixel */
    int32_t y_step, channels, zero_point, end, low, high;
};

/* What ends a tile: bytes; bytes cut to a range; nothing. */
enum { HELIUM_BYTES, HELIUM_CUT, HELIUM_SUMS };

#if HELIUM
#define HELIUM_ENTER                                 \
    "push {r4-r11, lr}\n vpush {d8-d15}\n sub sp, #224\n" \
    "ldrd r1, r2, [r0]\n"                            \
    "ldrd r7, r9, [r0, #8]\n"                        \
    "ldrd r12, r4, [r0, #16]\n"                      \
    "ldr r6, [r0, #28]\n"                            \
    "strd r12, r4, [sp, #208]\n"                     \
    "strd r6, r0, [sp, #216]\n"

/* Up to 16 channels: where their sums end. */
#define HELIUM_BLOCK                 \
    "1: add r11, sp, #16\n"          \
    "cmp r6, #16\n it ge\n movge r6, #16\n" \
    "add r0, r11, r6, lsl #2\n"      \
    "str r0, [sp, #12]\n"

#define HELIUM_LOADED(pixel) "vldrb.8 q0, [" pixel "], #16\n"
#define HELIUM_TIMES_TWO(first, second) "vmladava.s8 " first ", q0, q1\n vmladava.s8 " second ", q0, q2\n"

/* Two vectors of weights, each multiplied with the first pixel. Bytes; halves of them, masked or moved up. */
#define HELIUM_BYTE_WEIGHTS(w, first, second)                         \
    "vldrb.8 q1, [" w "], #16\n vmladava.s8 " first ", q0, q1\n"      \
    "vldrb.8 q2, [" w "], #16\n vmladava.s8 " second ", q0, q2\n"
#define HELIUM_NIBBLE_WEIGHTS(w, first, second)                       \
    "vldrb.8 q1, [" w "], #16\n vshl.i8 q2, q1, #4\n"                 \
    "vmladava.s8 " second ", q0, q2\n vand q1, q1, q3\n"              \
    "vmladava.s8 " first ", q0, q1\n"
#define HELIUM_BYTE_MASK ""
#define HELIUM_NIBBLE_MASK "vmov.i8 q3, #240\n"
#define HELIUM_BYTE_STEP "lsl r3, r3, #1\n"
#define HELIUM_NIBBLE_STEP ""
#define HELIUM_BYTE_SUMS ""
#define HELIUM_NIBBLE_SUMS                              \
    "vshr.s32 q0, q0, #4\n vshr.s32 q1, q1, #4\n"       \
    "vshr.s32 q2, q2, #4\n vshr.s32 q3, q3, #4\n"

/* Sums of `pixels` by 16 to bytes: rounded, the zero point added in 16 bits, cut. */
#define HELIUM_LEAVE(pixels, sums)                                                        \
    "ldrd r12, r4, [sp, #208]\n ldrd r6, r0, [sp, #216]\n"                            \
    "add r12, r12, #64\n vctp.8 r6\n ldr r3, [r0, #36]\n cmp r3, #2\n beq 6f\n"        \
    "vldrw.32 q4, [r12], #16\n vldrw.32 q5, [r12], #16\n"                             \
    "vldrw.32 q6, [r12], #16\n vldrw.32 q7, [r12], #16\n"                             \
    "ldrd r8, r10, [r0, #24]\n ldrd r2, r3, [r0, #32]\n"                              \
    "mov r1, r4\n add r11, sp, #16\n mov r5, #" pixels "\n dls lr, r5\n"              \
    "4: vld40.32 {q0, q1, q2, q3}, [r11]\n vld41.32 {q0, q1, q2, q3}, [r11]\n"        \
    "vld42.32 {q0, q1, q2, q3}, [r11]\n vld43.32 {q0, q1, q2, q3}, [r11]!\n" sums     \
    "vrmulh.s32 q0, q0, q4\n vrmulh.s32 q1, q1, q5\n"                                 \
    "vrmulh.s32 q2, q2, q6\n vrmulh.s32 q3, q3, q7\n"                                 \
    "vqmovnb.s32 q0, q0\n vqmovnt.s32 q0, q2\n"                                       \
    "vqmovnb.s32 q1, q1\n vqmovnt.s32 q1, q3\n"                                       \
    "vqadd.s16 q0, q0, r2\n vqadd.s16 q1, q1, r2\n"                                   \
    "vqmovnb.s16 q0, q0\n vqmovnt.s16 q0, q1\n"                                       \
    "cbz r3, 5f\n ldrd r9, r5, [r0, #40]\n"                                           \
    "vdup.8 q1, r9\n vmax.s8 q0, q0, q1\n vdup.8 q1, r5\n vmin.s8 q0, q0, q1\n"       \
    "5: vpst\n vstrbt.8 q0, [r1]\n add r1, r8\n le lr, 4b\n"                          \
    "adds r4, #16\n b 8f\n"                                                           \
    "6: ldr r8, [r0, #24]\n mov r1, r4\n add r11, sp, #16\n mov r5, #" pixels "\n dls lr, r5\n" \
    "7: vldrw.32 q0, [r11], #16\n vldrw.32 q1, [r11], #16\n"                          \
    "vldrw.32 q2, [r11], #16\n vldrw.32 q3, [r11], #16\n" sums                        \
    "vstrw.32 q0, [r1]\n vstrw.32 q1, [r1, #16]\n"                                    \
    "vstrw.32 q2, [r1, #32]\n vstrw.32 q3, [r1, #48]\n add r1, r8\n le lr, 7b\n"      \
    "adds r4, #64\n add r12, r12, #64\n"                                              \
    "8: ldr r9, [r0, #12]\n strd r12, r4, [sp, #208]\n"                               \
    "subs r6, #16\n str r6, [sp, #216]\n bgt 1b\n"                                    \
    "add sp, #224\n vpop {d8-d15}\n pop {r4-r11, pc}\n"

#define HELIUM_FUNCTION __attribute__((naked, noinline)) static void
#else
#define HELIUM_BYTE_WEIGHT(w, vectors, channel, k) \
    (w)[((channel) / 2 * (vectors) * 2 + (channel) % 2) * 16 + (k) / 16 * 32 + (k) % 16]
#define HELIUM_NIBBLE_WEIGHT(w, vectors, channel, k)                                                  \
    ((channel) % 2 ? (int32_t)((uint32_t)(w)[(channel) / 2 * (vectors) * 16 + (k)] << 28) >> 24         \
                   : (w)[(channel) / 2 * (vectors) * 16 + (k)] & ~15)
#endif
enum { HELIUM_BYTE_SHIFT = 0, HELIUM_NIBBLE_SHIFT = 4 };
