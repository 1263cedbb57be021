/* Starts a program on a Cortex-M board: vectors, FPU and Helium, initialised and cleared data, main, exit.
 *
 * Sources: Armv7-M and Armv8-M Architecture Reference Manuals (CPACR, CCR, the vector table).
 */
#include "semihosting.h"

extern uint32_t board_stack_top[], board_data_load[], board_data_start[], board_data_end[];
extern uint32_t board_bss_start[], board_bss_end[];
int main(void);
void start(void);

#define CPACR (*(volatile uint32_t *)0xE000ED88u)
#define CCR (*(volatile uint32_t *)0xE000ED14u)
enum { FULL_ACCESS_TO_10_AND_11 = 0xF << 20, LOOP_CACHE = 1 << 19, FAULT = 99 };

/* Loops stay loops: a call of memset would need what is not there yet. */
__attribute__((noreturn, optimize("no-tree-loop-distribute-patterns"))) void start(void) {
#if defined(__ARM_FP)
    CPACR |= FULL_ACCESS_TO_10_AND_11;
    __asm__ volatile("dsb\n isb" ::: "memory");
#endif
#if defined(__ARM_FEATURE_MVE)
    CCR |= LOOP_CACHE;
#endif
    const uint32_t *from = board_data_load;
    for (uint32_t *to = board_data_start; to < board_data_end;) *to++ = *from++;
    for (uint32_t *to = board_bss_start; to < board_bss_end;) *to++ = 0;
    semihosting_exit(main());
}

__attribute__((noreturn)) static void fault(void) {
    semihosting_exit(FAULT);
}

typedef void (*Handler)(void);
typedef union {
    void *stack;
    Handler handler;
} Vector;

__attribute__((section(".vectors"), used)) static const Vector vectors[16] = {
    {.stack = board_stack_top}, {.handler = start}, {.handler = fault}, {.handler = fault}, {.handler = fault},
    {.handler = fault},         {.handler = fault}, {.handler = fault}, {0},                {0},
    {0},                        {.handler = fault}, {.handler = fault}, {0},                {.handler = fault},
    {.handler = fault},
};
