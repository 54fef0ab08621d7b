// A group whose ranks are threads of one process: for tests, and the plainest transport there is.
#pragma once

#include <memory>
#include <vector>

#include "cluster/group.h"

namespace aster {

// One Group for each rank. A rank whose Group is destroyed is gone for the others.
std::vector<std::unique_ptr<Group>> MakeLocalGroup(int size);

}  // namespace aster
