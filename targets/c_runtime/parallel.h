/* A run's parallel loops.

   graphopt_parallel_begin(n) opens a run that may use n threads (the caller counts as one; n <= 0: one), and
   graphopt_parallel_end() closes it. Between the two, the kernels' parallel loops are spread over a pool of
   threads that lives as long as the process. The pool serves one run at a time; a run that finds it taken goes
   on with one thread and gives the same result.

   graphopt_parallel_default(cores) is the number for a run that asks for none: one for each core of the machine it was
   compiled for, or for each processor that this process could use when it first asked, if those are fewer. */
#ifndef GRAPHOPT_PARALLEL_H
#define GRAPHOPT_PARALLEL_H

int graphopt_parallel_default(int cores);
void graphopt_parallel_begin(int num_threads);
void graphopt_parallel_end(void);

#endif
