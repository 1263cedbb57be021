/* Reads pictures of digits with a neural network; tells how many are right, and what one takes. */
#include "board.h"
#include "digits.h"
#include "pictures.h"

static unsigned char arena[DIGITS_ARENA_BYTES] DIGITS_ALIGNED;

static int largest(const float *scores) {
    int best = 0;
    for (int n = 1; n < (int)DIGITS_OUTPUT_0_ELEMENTS; n++) {
        if (scores[n] > scores[best]) best = n;
    }
    return best;
}

int main(void) {
    const int wrong = digits_selftest(arena, sizeof arena);
    if (wrong) {
        print("the self-test finds a layer wrong: ", wrong, "\n");
        return 1;
    }
    int right = 0;
    uint32_t ticks = 0;
    for (int n = 0; n < PICTURES; n++) {
        float *const input = digits_input_0(arena);
        for (int i = 0; i < PIXELS; i++) input[i] = (float)pictures[n][i] / 16.0f;
        const uint32_t before = ticks_left();
        const int error = digits_run(arena, sizeof arena);
        ticks += before - ticks_left();
        if (error) return error;
        right += largest(digits_output_0(arena)) == labels[n];
    }
    print("right: ", right, "");
    print(" of ", PICTURES, "\n");
    print("instructions of one inference: ", (int)(ticks * NANOSECONDS_OF_TICK / PICTURES), "\n");
    print("arena: ", DIGITS_ARENA_BYTES, " bytes\n");
    return 0;
}
