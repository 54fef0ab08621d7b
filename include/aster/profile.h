// Where the time of forward passes went.
#pragma once

namespace aster {

// In seconds. What ggml computes is in none of these.
struct Profile {
  double linear = 0;     // linear layers by oneDNN, dequantising included
  double attention = 0;  // without packing
  double packing = 0;    // K and V into the store

  Profile& operator+=(const Profile& more) {
    linear += more.linear;
    attention += more.attention;
    packing += more.packing;
    return *this;
  }
};

}  // namespace aster
