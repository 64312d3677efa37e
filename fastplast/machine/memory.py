"""How much memory a device has to offer."""

from __future__ import annotations

import torch

_GROUP = "/sys/fs/cgroup/memory"
USABLE = 0.8  # share of a device's memory that training may take; the rest is left for everything else


def free_bytes(device: torch.device) -> int:
    """Memory that a group may take on a device.

    Args:
        device: where it is trained.

    Returns:
        Bytes: a share of what is free, within the limit of the control group.
    """
    if device.type == "cuda":
        return int(USABLE * torch.cuda.mem_get_info(device)[0])
    free = [_read("/proc/meminfo", "MemAvailable")]
    limit, used = (_read(f"{_GROUP}.{name}") for name in ("max", "current"))
    if limit is not None:
        free.append(limit - (used or 0))
    known = [value for value in free if value is not None]
    return int(USABLE * min(known)) if known else 4 << 30


def all_bytes() -> int | None:
    """Memory of the machine, within the limit of the control group; None if it is not known."""
    known = [value for value in (_read("/proc/meminfo", "MemTotal"), _read(f"{_GROUP}.max")) if value is not None]
    return min(known, default=None)


def _read(path: str, wanted: str = "") -> int | None:
    """A number of bytes: a file's only word, or one of /proc/meminfo by its name."""
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                name, _, rest = line.partition(":")
                if not rest:
                    return None if name.strip() == "max" else int(name)
                if name == wanted:
                    return 1024 * int(rest.split()[0])
    except (OSError, ValueError):
        pass
    return None
