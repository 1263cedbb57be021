/* Starts a program on a Cortex-M of QEMU's: vectors, FPU, data, main; ends QEMU with what main returns. */
#include "board.h"

#include <stddef.h>

enum { SYS_WRITE0 = 0x04, SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026, FAULT = 99 };

extern uint32_t stack_top[], data_load[], data_start[], data_end[], bss_start[], bss_end[];
int main(void);
void reset(void);

static void semihosting(int operation, const void *argument) {
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

__attribute__((noreturn)) static void end(int code) {
    const uintptr_t block[] = {APPLICATION_EXIT, (uintptr_t)code};
    for (;;) semihosting(SYS_EXIT_EXTENDED, block);
}

void print(const char *before, int number, const char *after) {
    char text[12], *digit = text + sizeof text;
    unsigned rest = number < 0 ? 0u - (unsigned)number : (unsigned)number;
    *--digit = 0;
    do *--digit = (char)('0' + rest % 10); while (rest /= 10);
    if (number < 0) *--digit = '-';
    semihosting(SYS_WRITE0, before);
    semihosting(SYS_WRITE0, digit);
    semihosting(SYS_WRITE0, after);
}

/* Loops stay loops: memset would be called before its memory is there. */
__attribute__((noreturn, optimize("no-tree-loop-distribute-patterns"))) void reset(void) {
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20; /* CPACR: the FPU, and Helium */
    __asm__ volatile("dsb\n isb" ::: "memory");
    const uint32_t *from = data_load;
    for (uint32_t *to = data_start; to < data_end;) *to++ = *from++;
    for (uint32_t *to = bss_start; to < bss_end;) *to++ = 0;
    *(volatile uint32_t *)0xE000E014u = TICKS; /* SysTick: reload, then on by the processor's clock */
    *(volatile uint32_t *)0xE000E010u = 5;
    end(main());
}

static void fault(void) {
    end(FAULT);
}

typedef void (*Handler)(void);
__attribute__((section(".vectors"), used)) static const Handler vectors[] = {
    (Handler)stack_top, reset, fault, fault, fault, fault, fault,
};
