/* A plugin for QEMU: how often each block of guest instructions is executed.
 *
 *     qemu-aarch64 -plugin libcount_blocks.so,out=FILE[,marks=ADDRESS:ADDRESS...] PROGRAM ...
 *
 * A section ends before a block that begins at one of the addresses. Under user emulation the guest also marks sections
 * by the system calls getppid and clock_gettime (173 and 113 on aarch64), which change nothing. At each mark, and at the
 * end, FILE gets a line "section address instructions executions" for every block that was executed since the last one.
 * Counts are exact, and the same in every run.
 *
 * Debian ships no qemu-plugin.h: what is used of it is declared here, and has been so since QEMU 4.2.
 * Source: "QEMU TCG Plugins", in QEMU's developer documentation.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
typedef struct qemu_info_t qemu_info_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };

void qemu_plugin_register_vcpu_tb_trans_cb(
    qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t id, struct qemu_plugin_tb *block));
void qemu_plugin_register_vcpu_tb_exec_cb(
    struct qemu_plugin_tb *block, void (*callback)(unsigned int cpu, void *data),
    enum qemu_plugin_cb_flags flags, void *data);
void qemu_plugin_register_vcpu_syscall_cb(
    qemu_plugin_id_t id,
    void (*callback)(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c,
                     uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h));
void qemu_plugin_register_atexit_cb(
    qemu_plugin_id_t id, void (*callback)(qemu_plugin_id_t id, void *data), void *data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);

#ifndef API_VERSION
#define API_VERSION 1 /* 2 from QEMU 9 on */
#endif
#define EXPORTED __attribute__((visibility("default")))
EXPORTED int qemu_plugin_version = API_VERSION;

enum { GETPPID = 173, CLOCK_GETTIME = 113, BUCKETS = 1 << 16 };

typedef struct Block {
    uint64_t address, executions;
    size_t instructions;
    int is_mark;
    struct Block *next;
} Block;

static Block *blocks[BUCKETS];
static FILE *out;
static int section;
static char *marks;

static void end_section(void) {
    for (int i = 0; i < BUCKETS; ++i) {
        for (Block *block = blocks[i]; block; block = block->next) {
            if (!block->executions) continue;
            fprintf(out, "%d %" PRIu64 " %zu %" PRIu64 "\n", section, block->address, block->instructions,
                    block->executions);
            block->executions = 0;
        }
    }
    ++section;
}

static void executed(unsigned int cpu, void *data) {
    Block *const block = data;
    (void)cpu;
    if (block->is_mark) end_section();
    ++block->executions;
}

/* Whether the address is among the marks: decimal numbers with colons between them. */
static int is_marked(uint64_t address) {
    for (char *mark = marks; mark && *mark;) {
        char *end;
        if (strtoull(mark, &end, 10) == address) return 1;
        mark = *end ? end + 1 : end;
    }
    return 0;
}

/* A block may be translated again, or again with another length. */
static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    const uint64_t address = qemu_plugin_tb_vaddr(block);
    const size_t instructions = qemu_plugin_tb_n_insns(block);
    Block **const bucket = &blocks[(address >> 2) % BUCKETS];
    Block *known = *bucket;
    (void)id;
    while (known && (known->address != address || known->instructions != instructions)) known = known->next;
    if (!known) {
        known = calloc(1, sizeof *known);
        if (!known) abort();
        known->address = address;
        known->instructions = instructions;
        known->is_mark = is_marked(address);
        known->next = *bucket;
        *bucket = known;
    }
    qemu_plugin_register_vcpu_tb_exec_cb(block, executed, QEMU_PLUGIN_CB_NO_REGS, known);
}

static void called(qemu_plugin_id_t id, unsigned int cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c,
                   uint64_t d, uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
    (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
    if (number == GETPPID || number == CLOCK_GETTIME) end_section();
}

static void ended(qemu_plugin_id_t id, void *data) {
    (void)id, (void)data;
    end_section();
    fclose(out);
}

EXPORTED int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int count, char **arguments) {
    (void)info;
    if (count < 1 || count > 2 || strncmp(arguments[0], "out=", 4)) return 1;
    if (count == 2 && strncmp(arguments[1], "marks=", 6)) return 1;
    if (count == 2 && !(marks = strdup(arguments[1] + 6))) return 1;
    out = fopen(arguments[0] + 4, "w");
    if (!out) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    qemu_plugin_register_atexit_cb(id, ended, NULL);
    return 0;
}
