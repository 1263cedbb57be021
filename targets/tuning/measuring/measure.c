/* measure NUMBER THREADS SECONDS: runs one candidate on the operands in `operands.NUMBER`, writes its outputs to
   `results.NUMBER`, and prints JSON: the minimum and the median of its runs in seconds.

   The first run, whose outputs are kept, warms up. A sample is as many runs as take SAMPLE seconds; samples are taken
   until the median is within SPREAD of the minimum, but at least FEWEST, and no longer than SECONDS. With SECONDS of
   -N it makes N runs and takes no time: who counts instructions subtracts two such counts. */
#define _GNU_SOURCE /* sched_setaffinity */
#include "candidates.h"
#include "parallel.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FEWEST = 5, MOST = 1000, ALIGNMENT = 64 };
static const double SAMPLE = 2e-4, SPREAD = 0.02;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The last `count` processors that this process may use: interrupts like the first. */
static void pin(int count) {
    cpu_set_t allowed, chosen;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
    CPU_ZERO(&chosen);
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0 && count > 0; cpu--)
        if (CPU_ISSET(cpu, &allowed)) {
            CPU_SET(cpu, &chosen);
            count--;
        }
    sched_setaffinity(0, sizeof chosen, &chosen);
}

static int fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    return 2;
}

static int run(const Candidate *candidate, void **buffers, int threads) {
    graphopt_parallel_begin(threads);
    int code = candidate->call(buffers);
    graphopt_parallel_end();
    return code;
}

int main(int argc, char **argv) {
    if (argc != 4) return fail("usage: measure NUMBER THREADS SECONDS");
    int number = atoi(argv[1]), threads = atoi(argv[2]);
    double seconds = atof(argv[3]);
    if (number < 0 || number >= candidate_count) return fail("there is no such candidate");
    const Candidate *candidate = &candidates[number];
    int buffers_in_all = candidate->inputs + candidate->outputs + candidate->workspaces;
    void **buffers = calloc((size_t)buffers_in_all + 1, sizeof *buffers);
    char name[32];
    snprintf(name, sizeof name, "operands.%d", number);
    FILE *operands = fopen(name, "rb");
    if (!buffers || !operands) return fail("cannot read the operands");
    for (int k = 0; k < buffers_in_all; k++) {
        size_t size = candidate->sizes[k];
        if (posix_memalign(&buffers[k], ALIGNMENT, size + ALIGNMENT)) return fail("out of memory");
        memset(buffers[k], 0x5A, size + ALIGNMENT);
        if (k < candidate->inputs && fread(buffers[k], 1, size, operands) != size) return fail("operands end early");
    }
    pin(threads);
    if (run(candidate, buffers, threads)) return fail("the kernel failed");
    snprintf(name, sizeof name, "results.%d", number);
    FILE *results = fopen(name, "wb");
    if (!results) return fail("cannot write the results");
    for (int k = candidate->inputs; k < candidate->inputs + candidate->outputs; k++)
        if (fwrite(buffers[k], 1, candidate->sizes[k], results) != candidate->sizes[k])
            return fail("cannot write the results");
    if (fclose(results)) return fail("cannot write the results");

    if (seconds < 0) {
        for (int k = 0; k < (int)-seconds; k++) run(candidate, buffers, threads);
        return 0;
    }
    static double samples[MOST], sorted[MOST];
    double begin = now(), end;
    long runs = 0;
    do {
        run(candidate, buffers, threads);
        runs++;
        end = now();
    } while (end - begin < SAMPLE);
    int taken = 0;
    double start = end;
    do {
        begin = now();
        for (long k = 0; k < runs; k++) run(candidate, buffers, threads);
        end = now();
        samples[taken++] = (end - begin) / (double)runs;
        memcpy(sorted, samples, sizeof sorted);
        qsort(sorted, (size_t)taken, sizeof *sorted, ascending);
        if (taken >= FEWEST && sorted[taken / 2] <= (1 + SPREAD) * sorted[0]) break;
    } while (taken < MOST && (taken < FEWEST || end - start < seconds));
    printf("{\"minimum\": %.9e, \"median\": %.9e, \"samples\": %d}\n", sorted[0], sorted[taken / 2], taken);
    return 0;
}
