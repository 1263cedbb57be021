/* A parallel-for over a persistent pool of threads.

   The kernels call through __TVMBackendParallelLaunch, which passes no context, so the run that owns the pool is
   known by a thread-local count. A launch publishes a job: its number and how many tasks it has, in one word. Task i
   belongs to worker i, so that a thread sees the same slice of data from layer to layer; a task whose worker has not
   come when the caller is done with its own is taken by the caller. So nothing ever waits for a thread that sleeps, was
   not created, or has no processor. Workers spin on the word for a moment, then sleep on a condition variable. Nothing
   is allocated; threads are created at the first run that wants them, and again after a fork, where the parent's
   threads do not exist. */
#define _GNU_SOURCE /* sched_getaffinity */
#include "parallel.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>

enum { MAX_THREADS = 64, SPINS = 4000, TASK_BITS = 8 };

/* Layout of TVMParallelGroupEnv: what a task learns of its launch. */
typedef struct {
    void *sync_handle;
    int32_t num_task;
} Launch;

typedef int (*Task)(int task_id, Launch *launch, void *closure);

/* Fields that every thread polls lie in cache lines of their own. */
static struct {
    pthread_mutex_t owner; /* held by the run that uses the pool */
    pthread_mutex_t mutex; /* guards sleeping and waking */
    pthread_cond_t wake;
    int workers; /* threads created so far, not counting callers */
    Task task;   /* the job; it stands still until its last task is done */
    void *closure;
    Launch launch;
    _Alignas(64) atomic_uint job; /* number of the job << TASK_BITS | its tasks */
    atomic_int sleepers;
    _Alignas(64) atomic_int pending; /* tasks that are not done, the caller's own not counted */
    atomic_int failed;
    _Alignas(64) atomic_uint taken[MAX_THREADS]; /* the last job whose task i somebody took */
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

/* The next job's word; sleeps when it is long in coming. */
static unsigned next_job(unsigned seen) {
    unsigned now;
    for (int spin = 0; spin < SPINS; ++spin) {
        now = atomic_load_explicit(&pool.job, memory_order_acquire);
        if (now != seen) return now;
        relax();
    }
    pthread_mutex_lock(&pool.mutex);
    atomic_fetch_add(&pool.sleepers, 1); /* before the word is read again: see publish */
    while ((now = atomic_load(&pool.job)) == seen) pthread_cond_wait(&pool.wake, &pool.mutex);
    atomic_fetch_sub(&pool.sleepers, 1);
    pthread_mutex_unlock(&pool.mutex);
    return now;
}

/* The caller has written the job. Either a worker that falls asleep sees it, or it is seen here as a sleeper. */
static unsigned publish(unsigned tasks) {
    const unsigned number = atomic_load_explicit(&pool.job, memory_order_relaxed) >> TASK_BITS;
    const unsigned job = (number + 1) << TASK_BITS | tasks;
    for (unsigned id = 1; id < tasks; ++id) /* however long nobody had this task: numbers wrap around */
        atomic_store_explicit(&pool.taken[id], number << TASK_BITS | 0xff, memory_order_relaxed);
    atomic_store(&pool.job, job);
    if (atomic_load(&pool.sleepers)) {
        pthread_mutex_lock(&pool.mutex);
        pthread_cond_broadcast(&pool.wake);
        pthread_mutex_unlock(&pool.mutex);
    }
    return job;
}

/* Take task `id` of `job` unless somebody has. A worker may come with a job that is over: then its task was taken in
   that job or in a later one, and the difference is not negative. */
static int take(int id, unsigned job) {
    unsigned last = atomic_load_explicit(&pool.taken[id], memory_order_relaxed);
    while ((int32_t)(last - job) < 0)
        if (atomic_compare_exchange_weak_explicit(
                &pool.taken[id], &last, job, memory_order_acq_rel, memory_order_relaxed))
            return 1;
    return 0;
}

static void perform(int id) {
    const int result = pool.task(id, &pool.launch, pool.closure);
    if (result) atomic_store_explicit(&pool.failed, result, memory_order_relaxed);
    atomic_fetch_sub_explicit(&pool.pending, 1, memory_order_release);
}

static void *work(void *argument) {
    const int id = (int)(uintptr_t)argument;
    unsigned seen = atomic_load_explicit(&pool.job, memory_order_acquire);
    for (;;) {
        seen = next_job(seen);
        const int tasks = (int)(seen & ((1u << TASK_BITS) - 1));
        if (id < tasks && take(id, seen)) perform(id);
    }
    return 0;
}

/* Called with the pool owned. */
static void grow(int wanted) {
    while (pool.workers < wanted) {
        pthread_t thread;
        if (pthread_create(&thread, 0, work, (void *)(uintptr_t)(pool.workers + 1))) break; /* the caller does more */
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
    atomic_store_explicit(&pool.pending, threads - 1, memory_order_relaxed);
    const unsigned job = publish((unsigned)threads);

    const int owned = threads_of_run;
    threads_of_run = 1; /* a loop inside a task runs where it is */
    const int mine = task(0, &pool.launch, closure);
    for (int id = threads - 1; id > 0; --id)
        if (take(id, job)) perform(id);
    threads_of_run = owned;
    for (int spin = 0; atomic_load_explicit(&pool.pending, memory_order_acquire) > 0; ++spin)
        spin < SPINS ? relax() : (void)sched_yield();
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
    atomic_store(&pool.sleepers, 0);
}

__attribute__((constructor)) static void watch_forks(void) {
    pthread_atfork(before_fork, after_fork_parent, after_fork_child);
}

int graphopt_parallel_default(int cores) {
    static atomic_int usable; /* 0: not asked yet */
    if (cores <= 1) return 1;
    int count = atomic_load_explicit(&usable, memory_order_relaxed);
    if (!count) {
        cpu_set_t set;
        count = sched_getaffinity(0, sizeof set, &set) ? MAX_THREADS : CPU_COUNT(&set);
        atomic_store_explicit(&usable, count, memory_order_relaxed);
    }
    return cores < count ? cores : count;
}

void graphopt_parallel_begin(int num_threads) {
    threads_of_run = 0;
    if (num_threads <= 1 || pthread_mutex_trylock(&pool.owner)) return;
    if (num_threads > MAX_THREADS) num_threads = MAX_THREADS;
    grow(num_threads - 1);
    threads_of_run = num_threads;
}

void graphopt_parallel_end(void) {
    if (threads_of_run) pthread_mutex_unlock(&pool.owner);
    threads_of_run = 0;
}
