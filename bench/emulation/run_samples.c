/* Runs the model on every sample of in.bin, which begins with their number, and writes the outputs to out.bin. */
#include <stdio.h>

#include "net.h"

static unsigned char arena[NET_ARENA_BYTES + 1] NET_ALIGNED;

int main(void) {
    FILE *const in = fopen("in.bin", "rb"), *const out = fopen("out.bin", "wb");
    uint32_t samples;
    if (!in || !out || fread(&samples, sizeof samples, 1, in) != 1) return 90;
    for (; samples; --samples) {
        const size_t given = sizeof(NET_INPUT_0_TYPE) * NET_INPUT_0_ELEMENTS;
        const size_t made = sizeof(NET_OUTPUT_0_TYPE) * NET_OUTPUT_0_ELEMENTS;
        if (fread(net_input_0(arena), given, 1, in) != 1) return 91;
        const int error = net_run(arena, sizeof arena);
        if (error) return error;
        if (fwrite(net_output_0(arena), made, 1, out) != 1) return 92;
    }
    return fclose(out) ? 92 : 0;
}
