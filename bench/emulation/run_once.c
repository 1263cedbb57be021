/* Runs a model for count_blocks.c: to warm up, then as a whole, then layer by layer.
 *
 *     run_once INPUT.bin ... -- OUTPUT_BYTES ...
 *
 * getppid marks where a run begins and ends; the clock that model_run_profiled reads marks the layers. The outputs go
 * to output_0.bin, output_1.bin, ..., the map of memory, which tells whose code an address is, to maps.txt.
 */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = MODEL_INPUTS > MODEL_OUTPUTS ? MODEL_INPUTS : MODEL_OUTPUTS };

static void fail(const char *what) {
    fprintf(stderr, "run_once: %s\n", what);
    exit(1);
}

static void *allocate(size_t bytes) {
    void *memory = NULL;
    if (posix_memalign(&memory, MODEL_WORKSPACE_ALIGNMENT, bytes ? bytes : 1)) fail("out of memory");
    return memset(memory, 0, bytes);
}

static void *contents(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END)) fail(path);
    const size_t bytes = (size_t)ftell(file);
    void *memory = allocate(bytes);
    rewind(file);
    if (fread(memory, 1, bytes, file) != bytes) fail(path);
    fclose(file);
    return memory;
}

static void copy_maps(void) {
    FILE *from = fopen("/proc/self/maps", "r"), *to = fopen("maps.txt", "w");
    if (!from || !to) fail("maps.txt");
    for (int c; (c = fgetc(from)) != EOF;) fputc(c, to);
    fclose(to);
}

int main(int count, char **arguments) {
    const void *inputs[MOST];
    void *outputs[MOST];
    size_t sizes[MOST];
    static uint64_t nanoseconds[MODEL_LAYERS];
    void *const workspace = allocate(MODEL_WORKSPACE_BYTES);

    if (count != MODEL_INPUTS + MODEL_OUTPUTS + 2) fail("as many arguments as the model has inputs and outputs");
    for (int i = 0; i < MODEL_INPUTS; ++i) inputs[i] = contents(arguments[1 + i]);
    for (int i = 0; i < MODEL_OUTPUTS; ++i) {
        sizes[i] = strtoull(arguments[2 + MODEL_INPUTS + i], NULL, 10);
        outputs[i] = allocate(sizes[i]);
    }
    int failed = model_run(inputs, outputs, workspace, MODEL_WORKSPACE_BYTES, 1);
    getppid();
    failed |= model_run(inputs, outputs, workspace, MODEL_WORKSPACE_BYTES, 1);
    getppid();
    failed |= model_run_profiled(inputs, outputs, workspace, MODEL_WORKSPACE_BYTES, 1, nanoseconds);
    getppid();
    if (failed) fail("a run failed");
    for (int i = 0; i < MODEL_OUTPUTS; ++i) {
        char path[32];
        snprintf(path, sizeof path, "output_%d.bin", i);
        FILE *file = fopen(path, "wb");
        if (!file || fwrite(outputs[i], 1, sizes[i], file) != sizes[i] || fclose(file)) fail(path);
    }
    copy_maps();
    return 0;
}
