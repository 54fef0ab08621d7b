// The group that a launcher (mpirun, srun) started this process in. One of mpi_group.cc and
// no_mpi.cc is built.
#pragma once

#include <cstdlib>
#include <memory>

#include "cluster/group.h"

namespace aster {

// Null: this process was started alone. Errors: kWorld. Call it once; with the group goes MPI.
// patience: how long a rank may give no sign of life.
Result<std::unique_ptr<Group>> LaunchedGroup(Patience patience);

// Whether a launcher started this process: the variables of Open MPI, of MPICH and Slurm's PMI, and
// of PMIx.
inline bool HasLauncher() {
  for (const char* variable : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_RANK"}) {
    if (std::getenv(variable) != nullptr) return true;
  }
  return false;
}

}  // namespace aster
