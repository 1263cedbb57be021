/* Runs the model on every sample of in.bin, which begins with their number, and writes the outputs to out.bin. */
#include <stdio.h>

#include "net.h"

static NET_INPUT_0_TYPE given[NET_INPUT_0_ELEMENTS];
static NET_OUTPUT_0_TYPE made[NET_OUTPUT_0_ELEMENTS];
static unsigned char arena[NET_ARENA_BYTES + 1] NET_ALIGNED;

int main(void) {
    FILE *const in = fopen("in.bin", "rb"), *const out = fopen("out.bin", "wb");
    uint32_t samples;
    if (!in || !out || fread(&samples, sizeof samples, 1, in) != 1) return 90;
    for (; samples; --samples) {
        if (fread(given, sizeof given, 1, in) != 1) return 91;
        const int error = net_run(given, made, arena, sizeof arena);
        if (error) return error;
        if (fwrite(made, sizeof made, 1, out) != 1) return 92;
    }
    return fclose(out) ? 92 : 0;
}
