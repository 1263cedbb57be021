/* Launches jobs from several threads at once, and looks whether each task was done exactly once.

   Usage: stress CALLERS JOBS. Exit code 0: everything was as it must be. */
#include "parallel.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ELEMENTS = 1000 };

typedef struct {
    void *sync_handle;
    int32_t num_task;
} Launch;

extern int (*__TVMBackendParallelLaunch)(int (*)(int, Launch *, void *), void *, int);

typedef struct {
    int counts[ELEMENTS];
    int fails; /* the task that reports an error; -1: none */
    int nested;
} Job;

static int share(int id, Launch *launch, void *closure) {
    Job *job = closure;
    const int tasks = launch->num_task;
    for (int i = id * ELEMENTS / tasks; i < (id + 1) * ELEMENTS / tasks; ++i) ++job->counts[i];
    if (job->nested) {
        Job inner = {.fails = -1};
        if (__TVMBackendParallelLaunch(share, &inner, 0)) return 2;
        for (int i = 0; i < ELEMENTS; ++i)
            if (inner.counts[i] != 1) return 3;
    }
    return id == job->fails ? 7 : 0;
}

static int jobs;

static void *caller(void *argument) {
    unsigned random = (unsigned)(uintptr_t)argument * 2654435761u + 1;
    for (int n = 0; n < jobs; ++n) {
        random = random * 1664525u + 1013904223u;
        const int threads = 1 + (random >> 16) % 5;
        Job job = {.fails = n % 11 == 0 ? 0 : -1, .nested = n % 7 == 0};
        graphopt_parallel_begin(threads);
        const int first = __TVMBackendParallelLaunch(share, &job, 0);
        const int second = __TVMBackendParallelLaunch(share, &job, 2);
        graphopt_parallel_end();
        if (first != (job.fails < 0 ? 0 : 7) || second != first) {
            fprintf(stderr, "job %d gave %d and %d\n", n, first, second);
            exit(1);
        }
        for (int i = 0; i < ELEMENTS; ++i)
            if (job.counts[i] != 2) {
                fprintf(stderr, "job %d: element %d was done %d times\n", n, i, job.counts[i]);
                exit(1);
            }
        if (n % 97 == 0) usleep(2000); /* let the workers fall asleep */
    }
    return 0;
}

int main(int count, char **arguments) {
    const int callers = count > 1 ? atoi(arguments[1]) : 1;
    jobs = count > 2 ? atoi(arguments[2]) : 1000;
    pthread_t threads[16];
    for (int i = 0; i < callers; ++i) pthread_create(&threads[i], 0, caller, (void *)(uintptr_t)i);
    for (int i = 0; i < callers; ++i) pthread_join(threads[i], 0);
    const pid_t child = fork();
    if (child == 0) {
        jobs = 50;
        caller(0);
        _exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    return status != 0;
}
