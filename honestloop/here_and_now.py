"""When and where something is graded, in words, for whoever reads it later."""

import os
import platform
from datetime import UTC, datetime


def started_at() -> str:
    """The time, ISO 8601 to the second, in UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def machine_name() -> str:
    """Architecture, processors, system and Python."""
    count = os.cpu_count() or 1
    processors = f"{platform.machine()}, {count} processor{'s' * (count > 1)}"
    return f"{processors}, {platform.system()} {platform.release()}, Python {platform.python_version()}"
