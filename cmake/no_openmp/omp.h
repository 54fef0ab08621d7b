// Stands for the compiler's <omp.h> in builds without OpenMP (ASTER_OPENMP=OFF): one thread, whose
// pragmas the compiler does not heed.
#pragma once

inline int omp_get_thread_num() { return 0; }
inline int omp_get_num_threads() { return 1; }
inline int omp_get_max_threads() { return 1; }
inline int omp_in_parallel() { return 0; }
inline void omp_set_num_threads(int) {}
