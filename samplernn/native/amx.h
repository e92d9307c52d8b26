// AMX: products of 32 rows and 32 outputs at a time in eight tile registers of 16 rows of 64 bytes.
//
// Tiles are always full: rows beyond the last song are computed and thrown away, which costs nothing and keeps one
// configuration. A row's results do not depend on the other rows.
#pragma once

#include <cstdint>

#include "panel.h"

#ifdef __AMX_TILE__
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace snn {

constexpr int TILE_ROWS = 16, TILE_BYTES = 64;
constexpr int SPARE_ROWS = 32;  // that a buffer of rows has at its end for tiles to read and write

#ifdef __AMX_TILE__

// The kernel asks processes to ask before they use tiles (Linux's Documentation/arch/x86/xstate.rst).
inline bool may_use_tiles() {
    constexpr long ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

// Tiles configured for this thread while the object lives.
class Tiles {
  public:
    Tiles() {
        struct alignas(64) {
            uint8_t palette = 1, start_row = 0, reserved[14] = {};
            uint16_t bytes[16] = {};
            uint8_t rows[16] = {};
        } config;
        for (int i = 0; i < 8; ++i) config.bytes[i] = TILE_BYTES, config.rows[i] = TILE_ROWS;
        _tile_loadconfig(&config);
    }
    ~Tiles() { _tile_release(); }
    Tiles(const Tiles&) = delete;
    Tiles& operator=(const Tiles&) = delete;
};

#else

struct Tiles {
    Tiles() {}
    ~Tiles() {}
};

#endif

}  // namespace snn
