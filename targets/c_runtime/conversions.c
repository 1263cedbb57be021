/* Between floats and 64-bit integers on 32-bit ARM: kernels call these by the names of GCC's library, zig's has
   them under those of the ARM EABI, to which the casts below compile. The linker drops what nobody calls. */
#include <stdint.h>

#if defined(__arm__)
int64_t __fixsfdi(float x) { return (int64_t)x; }
int64_t __fixdfdi(double x) { return (int64_t)x; }
uint64_t __fixunssfdi(float x) { return (uint64_t)x; }
uint64_t __fixunsdfdi(double x) { return (uint64_t)x; }
float __floatdisf(int64_t x) { return (float)x; }
double __floatdidf(int64_t x) { return (double)x; }
float __floatundisf(uint64_t x) { return (float)x; }
double __floatundidf(uint64_t x) { return (double)x; }
#endif
