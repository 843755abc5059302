"""What this process may use of the machine."""

import contextlib
import os
import re
from pathlib import Path

BYTES_PER_WORKER = 2**30
"""What a process that looks at pictures may need at once: its models, and the largest picture it takes."""


def available_cores() -> int:
    """The processors that this process may use, which a container may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def roomy_cores() -> int:
    """The processors for which there is memory too, should each of them meet the largest picture at once."""
    return max(1, min(available_cores(), available_memory() // BYTES_PER_WORKER))


def available_memory() -> int:
    """Bytes that are free, or freed when needed; what a container has not used up of its limit, if less."""
    found = []
    with contextlib.suppress(OSError, ValueError, AttributeError):
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        found.append(1024 * int(re.search(r"MemAvailable:\s+(\d+) kB", text)[1]))  # type: ignore[index]
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
        found.append(max(0, limit - used))
    return min(found, default=available_cores() * BYTES_PER_WORKER)
