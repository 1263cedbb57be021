/* Starts a program on a RISC-V board: stack, FPU, traps, initialised and cleared data, main, exit.
 *
 * Sources: "The RISC-V Instruction Set Manual, Volume II" (mstatus, mtvec); "RISC-V Semihosting".
 */
    .option arch, +zicsr
    .section .vectors, "ax"
    .global board_start
board_start:
    .option push
    .option norelax
    la gp, __global_pointer$
    .option pop
    la sp, board_stack_top
    la t0, fault
    csrw mtvec, t0
    li t0, 0x6000 /* mstatus.FS: the FPU is on */
    csrs mstatus, t0
    la t0, board_data_load
    la t1, board_data_start
    la t2, board_data_end
1:  bgeu t1, t2, 2f
    lw t3, 0(t0)
    sw t3, 0(t1)
    addi t0, t0, 4
    addi t1, t1, 4
    j 1b
2:  la t1, board_bss_start
    la t2, board_bss_end
3:  bgeu t1, t2, 4f
    sw zero, 0(t1)
    addi t1, t1, 4
    j 3b
4:  call main
    tail semihosting_end
    .balign 4
fault:
    li a0, 99
    tail semihosting_end

/* long semihosting_call(long operation, const void *block): three instructions of full width on one page. */
    .balign 16
    .global semihosting_call
semihosting_call:
    .option push
    .option norvc
    slli zero, zero, 0x1f
    ebreak
    srai zero, zero, 7
    .option pop
    ret
