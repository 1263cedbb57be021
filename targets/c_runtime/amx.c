/* Leave to use the registers of AMX, which Linux gives a process that asks for it; its threads have it too. Without
   leave the first instruction would be a fatal signal, so every run asks `graphopt_amx_missing` first. */
#define _GNU_SOURCE /* syscall */
#include "amx.h"

#include <sys/syscall.h>
#include <unistd.h>

enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };

static int missing = 1;

__attribute__((constructor)) static void ask(void) { missing = syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) != 0; }

int graphopt_amx_missing(void) { return missing; }
