/* Files and the end of a program by semihosting: what a debugger, or QEMU, does for a board.
 *
 * Source: "Semihosting for AArch32 and AArch64", Arm, release 2.0; RISC-V has the same operations.
 */
#ifndef SEMIHOSTING_H
#define SEMIHOSTING_H

#include <stddef.h>
#include <stdint.h>

enum { SYS_OPEN = 0x01, SYS_CLOSE = 0x02, SYS_WRITE = 0x05, SYS_READ = 0x06, SYS_EXIT_EXTENDED = 0x20 };
enum { FOR_READING = 1, FOR_WRITING = 5, APPLICATION_EXIT = 0x20026 };

#if defined(__riscv)
long semihosting_call(long operation, const void *block);
#else
static inline long semihosting_call(long operation, const void *block) {
    register long result __asm__("r0") = operation;
    register const void *argument __asm__("r1") = block;
    __asm__ volatile("bkpt 0xab" : "+r"(result) : "r"(argument) : "memory");
    return result;
}
#endif

__attribute__((noreturn)) static inline void semihosting_exit(int code) {
    const uintptr_t block[] = {APPLICATION_EXIT, (uintptr_t)code};
    for (;;) semihosting_call(SYS_EXIT_EXTENDED, block);
}

/* A file by its name, of `length` characters; -1 where it cannot be opened. */
static inline long semihosting_open(const char *name, size_t length, int mode) {
    const uintptr_t block[] = {(uintptr_t)name, (uintptr_t)mode, length};
    return semihosting_call(SYS_OPEN, block);
}

/* Both tell how many bytes are missing in the end. */
static inline long semihosting_read(long file, void *to, size_t bytes) {
    const uintptr_t block[] = {(uintptr_t)file, (uintptr_t)to, bytes};
    return semihosting_call(SYS_READ, block);
}

static inline long semihosting_write(long file, const void *from, size_t bytes) {
    const uintptr_t block[] = {(uintptr_t)file, (uintptr_t)from, bytes};
    return semihosting_call(SYS_WRITE, block);
}

static inline void semihosting_close(long file) {
    const uintptr_t block[] = {(uintptr_t)file};
    semihosting_call(SYS_CLOSE, block);
}

#endif
