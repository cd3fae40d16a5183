"""What the machine does: processor use, graphics cards through NVML where there are any, and what makes a run repeat.

Nothing here is needed: what cannot be read is "not measured", and says why.
"""

import hashlib
import importlib
import os
import platform
import time
from typing import Any

import psutil

from impl.run.files import canonical_json

NOT_MEASURED = "not measured"


def cpu_percent() -> float:
    """Percent of one core that this process has used since it began: 200 is two cores all the time."""
    process = psutil.Process()
    times = process.cpu_times()
    lived = max(time.time() - process.create_time(), 1e-9)
    return 100.0 * (times.user + times.system) / lived


def gpus(nvml: Any = None) -> list[dict[str, Any]] | str:
    """Name, memory in use and in all (bytes), and utilisation (percent) of each card, as NVML tells it.

    `nvml` has the functions of the package pynvml (nvidia-ml-py), which is optional; "not measured: ..." without it or
    without a driver.
    """
    try:
        found = nvml or importlib.import_module("pynvml")
    except ImportError:
        return f"{NOT_MEASURED}: the package nvidia-ml-py is not installed"
    try:
        found.nvmlInit()
    except Exception as error:  # the library raises its own class, NVMLError
        return f"{NOT_MEASURED}: {error}"
    try:
        return [_gpu(found, number) for number in range(found.nvmlDeviceGetCount())]
    except Exception as error:
        return f"{NOT_MEASURED}: {error}"
    finally:
        found.nvmlShutdown()


def _gpu(nvml: Any, number: int) -> dict[str, Any]:
    handle = nvml.nvmlDeviceGetHandleByIndex(number)
    memory, name = nvml.nvmlDeviceGetMemoryInfo(handle), nvml.nvmlDeviceGetName(handle)
    return {
        "name": name.decode() if isinstance(name, bytes) else name,
        "memory_used_bytes": int(memory.used),
        "memory_total_bytes": int(memory.total),
        "utilisation_percent": int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
    }


def fingerprint() -> dict[str, Any]:
    """The machine in a few facts, and the first 16 hex digits of their SHA-256: equal on equal machines."""
    facts = {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": psutil.cpu_count(logical=False),
        "threads": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
    }
    return {**facts, "sha256": hashlib.sha256(canonical_json(facts)).hexdigest()[:16]}


def determinism() -> dict[str, str]:
    """What may change the bits of a run -> what holds it, here and now."""
    hash_seed = os.environ.get("PYTHONHASHSEED", "random")
    return {
        "seed": "every draw is a function of (seed, stream, counter); no global generator is used",
        "threads": "sums have one order, whatever the number of threads",
        "vector width": "each element of a product has one accumulator; nothing is reordered (no fastmath)",
        "libm": "exp, log, sin and erf are this project's own",
        "PYTHONHASHSEED": f"{hash_seed}; no result depends on the order of a set",
        "CUBLAS_WORKSPACE_CONFIG": "no effect: no product is made by cuBLAS",
        "torch.use_deterministic_algorithms": "no effect: PyTorch is not used",
    }


def facts() -> dict[str, Any]:
    """What machine.json holds: the machine, its graphics cards, the processor's use, and what makes a run repeat."""
    return {
        "fingerprint": fingerprint(),
        "gpus": gpus(),
        "cpu_percent": cpu_percent(),
        "determinism": determinism(),
    }
