/* A parallel-for over a persistent pool of threads.

   The kernels call through __TVMBackendParallelLaunch, which passes no context, so the run that owns the pool is
   known by a thread-local count. A launch publishes a job and raises the generation; workers spin on the
   generation for a moment, then sleep on a condition variable. Tasks are dealt by index: task i runs on thread i,
   so that a thread sees the same slice of data from layer to layer. Nothing is allocated; threads are created at
   the first run that wants them, and again after a fork, where the parent's threads do not exist. */
#include "parallel.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

enum { MAX_THREADS = 64, SPINS = 4000 };

/* Layout of TVMParallelGroupEnv: what a task learns of its launch. */
typedef struct {
    void *sync_handle;
    int32_t num_task;
} Launch;

typedef int (*Task)(int task_id, Launch *launch, void *closure);

static struct {
    pthread_mutex_t owner; /* held by the run that uses the pool */
    pthread_mutex_t mutex; /* guards sleeping and waking */
    pthread_cond_t wake;
    int workers; /* threads created so far, not counting callers */
    atomic_uint generation;
    atomic_int pending; /* workers that have not finished the generation */
    atomic_int failed;
    Task task;
    void *closure;
    Launch launch;
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER, .mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

/* 0: this run does not own the pool. Initial-exec, so that the library needs nothing of the dynamic linker. */
static _Thread_local int threads_of_run __attribute__((tls_model("initial-exec")));

static inline void relax(void) {
#if defined(__x86_64__)
    __asm__ volatile("pause");
#elif defined(__aarch64__) || defined(__arm__)
    __asm__ volatile("yield");
#endif
}

static unsigned next_generation(unsigned seen) {
    unsigned now;
    for (int spin = 0; spin < SPINS; ++spin) {
        now = atomic_load_explicit(&pool.generation, memory_order_acquire);
        if (now != seen) return now;
        relax();
    }
    pthread_mutex_lock(&pool.mutex);
    while ((now = atomic_load_explicit(&pool.generation, memory_order_acquire)) == seen)
        pthread_cond_wait(&pool.wake, &pool.mutex);
    pthread_mutex_unlock(&pool.mutex);
    return now;
}

/* The argument is the worker's task number, and in the upper half the generation at its birth. */
static void *work(void *argument) {
    const int id = (int)((uintptr_t)argument & 0xff);
    unsigned seen = (unsigned)((uintptr_t)argument >> 8);
    for (;;) {
        seen = next_generation(seen); /* none is missed: the owner waits for every worker */
        if (id < pool.launch.num_task) {
            const int result = pool.task(id, &pool.launch, pool.closure);
            if (result) atomic_store_explicit(&pool.failed, result, memory_order_relaxed);
        }
        atomic_fetch_sub_explicit(&pool.pending, 1, memory_order_release);
    }
    return 0;
}

/* Called with the pool owned, so that no generation passes meanwhile. */
static void grow(int wanted) {
    const uintptr_t generation = atomic_load_explicit(&pool.generation, memory_order_relaxed) & 0xffffff;
    while (pool.workers < wanted) {
        pthread_t thread;
        const uintptr_t argument = generation << 8 | (uintptr_t)(pool.workers + 1);
        if (pthread_create(&thread, 0, work, (void *)argument)) break; /* fewer threads, same result */
        pthread_detach(thread);
        ++pool.workers;
    }
}

static int launch(Task task, void *closure, int num_task) {
    int threads = threads_of_run > 0 ? threads_of_run : 1;
    if (num_task > 0 && num_task < threads) threads = num_task;
    if (threads == 1) {
        Launch alone = {0, 1};
        return task(0, &alone, closure);
    }
    pool.task = task;
    pool.closure = closure;
    pool.launch.num_task = threads;
    atomic_store_explicit(&pool.failed, 0, memory_order_relaxed);
    atomic_store_explicit(&pool.pending, pool.workers, memory_order_relaxed);
    pthread_mutex_lock(&pool.mutex);
    const unsigned next = (atomic_load_explicit(&pool.generation, memory_order_relaxed) + 1) & 0xffffff;
    atomic_store_explicit(&pool.generation, next, memory_order_release);
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.mutex);

    const int owned = threads_of_run;
    threads_of_run = 1; /* a loop inside a task runs where it is */
    const int mine = task(0, &pool.launch, closure);
    threads_of_run = owned;
    while (atomic_load_explicit(&pool.pending, memory_order_acquire) > 0) relax();
    return mine ? mine : atomic_load_explicit(&pool.failed, memory_order_relaxed);
}

__attribute__((visibility("hidden"))) int (*__TVMBackendParallelLaunch)(Task, void *, int) = launch;

/* Around fork the pool is held, so that the child finds it whole; the child has no workers. */
static void before_fork(void) { pthread_mutex_lock(&pool.owner); }
static void after_fork_parent(void) { pthread_mutex_unlock(&pool.owner); }
static void after_fork_child(void) {
    static const pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static const pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
    pool.owner = mutex;
    pool.mutex = mutex;
    pool.wake = condition;
    pool.workers = 0;
}

__attribute__((constructor)) static void watch_forks(void) {
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

void graphopt_parallel_begin(int num_threads) {
    threads_of_run = 0;
    if (num_threads <= 1 || pthread_mutex_trylock(&pool.owner)) return;
    if (num_threads > MAX_THREADS) num_threads = MAX_THREADS;
    grow(num_threads - 1);
    threads_of_run = num_threads < pool.workers + 1 ? num_threads : pool.workers + 1;
}

void graphopt_parallel_end(void) {
    if (threads_of_run) pthread_mutex_unlock(&pool.owner);
    threads_of_run = 0;
}
