"""How much memory a device has to offer."""

from __future__ import annotations

import torch

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
    free = [_read("/proc/meminfo")]
    limit, used = (_read(f"/sys/fs/cgroup/memory.{name}") for name in ("max", "current"))
    if limit is not None:
        free.append(limit - (used or 0))
    known = [value for value in free if value is not None]
    return int(USABLE * min(known)) if known else 4 << 30


def _read(path: str) -> int | None:
    """A number of bytes: a file's only word, or what is available according to /proc/meminfo."""
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                name, _, rest = line.partition(":")
                if not rest:
                    return None if name.strip() == "max" else int(name)
                if name == "MemAvailable":
                    return 1024 * int(rest.split()[0])
    except (OSError, ValueError):
        pass
    return None
