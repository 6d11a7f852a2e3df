// Whether the kernel of this library may run: a matrix unit has to be asked for, because its registers cost memory in every
// thread.
#if defined(__AMX_TILE__)
#include <sys/syscall.h>
#include <unistd.h>

/** 1 when this process may use the matrix unit from now on, 0 when the system refuses. */
extern "C" int fat5_permitted() {
  constexpr long requestPermission = 0x1023, tileData = 18;  // Linux: arch_prctl's ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, requestPermission, tileData) == 0;
}
#else
extern "C" int fat5_permitted() { return 1; }
#endif
