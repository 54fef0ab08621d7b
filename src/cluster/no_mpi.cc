#include <string>

#include "cluster/launched_group.h"

namespace aster {

Result<std::unique_ptr<Group>> LaunchedGroup(Patience) {
  if (!HasLauncher()) return std::unique_ptr<Group>();
  return WorldError(
      "started by mpirun, but this build has no MPI; expected one built with it: install "
      "libopenmpi-dev and openmpi-bin, then ./quickstart");
}

}  // namespace aster
