// Products of bf16, which a CPU may have and yet be slow at.
#pragma once

namespace aster {

// Whether this CPU multiplies bf16 faster than f32: with AMX, or with vdpbf16ps on a CPU that is
// not Intel's. Intel's without AMX start one 64-byte vdpbf16ps in two cycles and two multiply-adds
// of f32 in each, so that bf16 is half as fast (seen on an Emerald Rapids whose AMX is masked). On
// AMD's Zen 4 a prefill is 1.7 times as fast with it (seen); Zen 5 was not seen.
bool Bf16IsFaster() noexcept;

}  // namespace aster
