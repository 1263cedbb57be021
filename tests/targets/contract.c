/* Holds a compiled model to what its header promises. Prints "kept", or the line that does not hold.

       ./contract [THREADS]

   THREADS: how many a forked child may use. QEMU 7 ends a child that makes threads when its parent had some. */
#define _GNU_SOURCE
#include "tiny.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { INPUTS = TINY_INPUTS, OUTPUTS = TINY_OUTPUTS, GUARD = 64, RUNS = 40, CALLERS = 3 };

#define CHECK(condition)                                                  \
    do {                                                                  \
        if (!(condition)) {                                               \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);       \
            exit(1);                                                      \
        }                                                                 \
    } while (0)

/* Every allocation of the process is counted. */
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
static atomic_long allocations;

void *malloc(size_t size) {
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(count, size);
}
void *realloc(void *old, size_t size) {
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(old, size);
}

static const size_t input_bytes[] = {TINY_INPUT_0_BYTES, TINY_INPUT_1_BYTES};
static const size_t output_bytes[] = {TINY_OUTPUT_0_BYTES, TINY_OUTPUT_1_BYTES};
static const void *inputs[INPUTS];
static void *expected[OUTPUTS];

/* Memory with a guard on both sides. */
static unsigned char *guarded(size_t bytes) {
    void *memory = NULL;
    CHECK(!posix_memalign(&memory, TINY_WORKSPACE_ALIGNMENT, bytes + 2 * GUARD));
    memset(memory, 0xC5, bytes + 2 * GUARD);
    return (unsigned char *)memory + GUARD;
}

static int untouched(const unsigned char *memory, size_t bytes) {
    for (int i = 0; i < GUARD; ++i)
        if (memory[-1 - i] != 0xC5 || memory[bytes + i] != 0xC5) return 0;
    return 1;
}

typedef struct {
    void *outputs[OUTPUTS];
    unsigned char *workspace;
} Place;

static Place new_place(void) {
    Place place = {{0}, guarded(TINY_WORKSPACE_BYTES)};
    for (int i = 0; i < OUTPUTS; ++i) place.outputs[i] = guarded(output_bytes[i]);
    return place;
}

static int run(const Place *place, int threads) {
    return tiny_run(inputs, place->outputs, place->workspace, TINY_WORKSPACE_BYTES, threads);
}

/* One run gives the expected bytes, whatever was in the outputs and in the workspace. */
static int same(const Place *place, int threads, int fill) {
    memset(place->workspace, fill, TINY_WORKSPACE_BYTES);
    for (int i = 0; i < OUTPUTS; ++i) memset(place->outputs[i], fill, output_bytes[i]);
    if (run(place, threads)) return 0;
    for (int i = 0; i < OUTPUTS; ++i) {
        if (memcmp(place->outputs[i], expected[i], output_bytes[i])) return 0;
        if (!untouched(place->outputs[i], output_bytes[i])) return 0;
    }
    return untouched(place->workspace, TINY_WORKSPACE_BYTES);
}

static void errors(Place place) {
    const void *const *no_inputs = NULL;
    void *const *no_outputs = NULL;
    const size_t enough = TINY_WORKSPACE_BYTES;
    CHECK(tiny_run(no_inputs, place.outputs, place.workspace, enough, 1) == TINY_ERROR_NULL);
    CHECK(tiny_run(inputs, no_outputs, place.workspace, enough, 1) == TINY_ERROR_NULL);
    CHECK(tiny_run(inputs, place.outputs, NULL, enough, 1) == TINY_ERROR_NULL);
    CHECK(tiny_run(inputs, place.outputs, place.workspace, enough - 1, 1) == TINY_ERROR_WORKSPACE);
    CHECK(tiny_run(inputs, place.outputs, place.workspace, 0, 1) == TINY_ERROR_WORKSPACE);
    CHECK(tiny_run(inputs, place.outputs, place.workspace + 1, enough, 1) == TINY_ERROR_ALIGNMENT);
    CHECK(tiny_run(inputs, place.outputs, place.workspace + 32, enough, 1) == TINY_ERROR_ALIGNMENT);
    for (int i = 0; i < INPUTS; ++i) {
        const void *const good = inputs[i];
        inputs[i] = NULL;
        CHECK(run(&place, 1) == TINY_ERROR_NULL);
        inputs[i] = (const char *)good + 2;
        CHECK(run(&place, 1) == TINY_ERROR_ALIGNMENT);
        inputs[i] = good;
    }
    for (int i = 0; i < OUTPUTS; ++i) {
        Place wrong = place;
        wrong.outputs[i] = NULL;
        CHECK(run(&wrong, 1) == TINY_ERROR_NULL);
        wrong.outputs[i] = (char *)place.outputs[i] + 2;
        CHECK(run(&wrong, 1) == TINY_ERROR_ALIGNMENT);
    }
    for (int code = -1; code < 9; ++code) CHECK(strlen(tiny_error_string(code)) > 0);
    CHECK(tiny_abi_version() == TINY_ABI_VERSION);
    CHECK(strstr(tiny_description(), TINY_INPUT_0_NAME) && strstr(tiny_description(), TINY_OUTPUT_1_NAME));
}

static void *call_often(void *place) {
    for (int i = 0; i < RUNS; ++i)
        if (!same(place, 1 + i % 3, i)) return place;
    return NULL;
}

static void callers_at_the_same_time(void) {
    pthread_t callers[CALLERS];
    Place places[CALLERS];
    for (int i = 0; i < CALLERS; ++i) {
        places[i] = new_place();
        CHECK(!pthread_create(&callers[i], NULL, call_often, &places[i]));
    }
    for (int i = 0; i < CALLERS; ++i) {
        void *wrong;
        CHECK(!pthread_join(callers[i], &wrong) && !wrong);
    }
}

static int threads_of_process(void) {
    struct stat tasks;
    CHECK(!stat("/proc/self/task", &tasks));
    return (int)tasks.st_nlink - 2;
}

/* A child runs with threads of its own, also when it is born while another thread of its parent runs. */
static void forks(const Place *place, int threads) {
    pthread_t caller;
    Place other = new_place();
    for (int i = 0; i < 6; ++i) {
        const int busy = i % 2;
        if (busy) CHECK(!pthread_create(&caller, NULL, call_often, &other));
        const pid_t child = fork();
        CHECK(child >= 0);
        if (!child) {
            alarm(60); /* a child that hangs is a child that failed */
            const int good = same(place, threads, 1) && same(place, 1, 2);
            _exit(good && (threads == 1 || threads_of_process() == threads) ? 0 : 1);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        CHECK(same(place, 2, 3));
        void *wrong = NULL;
        if (busy) CHECK(!pthread_join(caller, &wrong) && !wrong);
    }
}

int main(int count, char **arguments) {
    unsigned char *before[INPUTS];
    unsigned seed = 1;
    for (int i = 0; i < INPUTS; ++i) {
        float *const values = (float *)guarded(input_bytes[i]);
        for (size_t k = 0; k < input_bytes[i] / sizeof *values; ++k) {
            seed = seed * 1664525u + 1013904223u;
            values[k] = (float)(seed >> 8) / (1 << 23) - 1;
        }
        inputs[i] = values;
        before[i] = malloc(input_bytes[i]);
        memcpy(before[i], values, input_bytes[i]);
    }
    const Place first = new_place(), place = new_place();
    CHECK(run(&first, 1) == TINY_OK);
    for (int i = 0; i < OUTPUTS; ++i) expected[i] = first.outputs[i];

    static const int counts[] = {1, 2, 3, 4, 0, 64, 1000, -1, 1};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; ++i) {
        CHECK(same(&place, counts[i], 0x00));
        CHECK(same(&place, counts[i], 0xFF)); /* every float a NaN */
    }
    const long counted = allocations;
    CHECK(counted > 0);
    for (int i = 0; i < RUNS; ++i) CHECK(!run(&place, 1 + i % 4));
    CHECK(allocations == counted);

    errors(new_place());
    CHECK(same(&place, 2, 0x55));
    callers_at_the_same_time();
    forks(&place, count > 1 ? atoi(arguments[1]) : 3);
    for (int i = 0; i < INPUTS; ++i) {
        CHECK(!memcmp(before[i], inputs[i], input_bytes[i]));
        CHECK(untouched((unsigned char *)inputs[i], input_bytes[i]));
    }
    puts("kept");
    return 0;
}
