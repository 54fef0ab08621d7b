"""Facts about this machine that a timing needs beside it."""

import os
import pathlib
import platform

FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")


def cpuinfo():
    """The first CPU's entries of /proc/cpuinfo."""
    entries = {}
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            key, colon, value = line.partition(":")
            if not colon:
                break
            entries[key.strip()] = value.strip()
    return entries


def physical_cores():
    """How many cores this process may use, two hardware threads of one core counted once."""
    cores = set()
    for cpu in os.sched_getaffinity(0):
        path = pathlib.Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(path.read_text() if path.exists() else str(cpu))
    return len(cores)


def facts():
    """A dictionary for results.json; memory in bytes."""
    info = cpuinfo()
    flags = info.get("flags", "").split()
    governor = pathlib.Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "cpu": info.get("model name", platform.machine()), "cores": physical_cores(),
        "hardware_threads": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "flags": [flag for flag in FLAGS if flag in flags
                 ], "governor": governor.read_text().strip() if governor.exists() else None,
        "kernel": platform.release()
    }
