/* What a program needs of a board: a text on the debugger's console, and a counter. Both are QEMU's here. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

/* Print a text, a number and a text, by semihosting. */
void print(const char *before, int number, const char *after);

/* SysTick counts down from its largest value, once for every tick of the processor's clock. */
enum { TICKS = 0xFFFFFF };
static inline uint32_t ticks_left(void) {
    return *(volatile uint32_t *)0xE000E018u;
}

/* With -icount shift=0 QEMU takes a nanosecond for every instruction. */
#define NANOSECONDS_OF_TICK (1e9f / CLOCK)

#endif
