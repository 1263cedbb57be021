#ifndef GRAPHOPT_AMX_H
#define GRAPHOPT_AMX_H

/* Not 0 where the operating system does not let this process use AMX. */
int graphopt_amx_missing(void);

#endif
