"""The peak memory of a process, in bytes on every platform."""

import re
import sys
from pathlib import Path

import psutil

_STATUS = Path("/proc/self/status")


def peak_memory_bytes() -> int:
    """Largest resident set that this process has had.

    Linux says it in KiB (`VmHWM`, proc_pid_status(5)); its `ru_maxrss`, also in KiB, starts at the peak of the process
    that started this one, and is read only where there is no /proc. On macOS `ru_maxrss` is in bytes, and Windows,
    which has no `resource`, counts the peak of the working set.
    """
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    if sys.platform == "linux" and _STATUS.exists():
        peak = re.search(r"^VmHWM:\s*([0-9]+) kB$", _STATUS.read_text(encoding="ascii"), re.MULTILINE)
        if peak:
            return int(peak[1]) * 1024
    import resource

    peak_rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak_rss if sys.platform == "darwin" else peak_rss * 1024
