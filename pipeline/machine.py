"""What this process may use of the machine."""

import os


def available_cores() -> int:
    """The processors that this process may use, which a container may have limited."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
