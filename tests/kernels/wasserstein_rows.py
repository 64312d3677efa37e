"""Rows of weights of every kind that a bucket sort may stumble over, and the ranks that a stable sort gives them."""

import numpy as np

# Limits of the kernel's ways to rank on both sides, powers of two and not, the layers of the networks.
SIZES = (1, 2, 11, 64, 65, 768, 769, 2049, 8192, 16_384, 16_385, 100_352, 300_000)


def _misleading(rng, gauss):
    """Every value that a kernel may sample at regular distances is Gaussian, all others stand in a spike."""
    step = max(1, gauss.size // 4096)
    return np.where(np.arange(gauss.size) % step == 0, gauss, 1 + 1e-5 * gauss)


KINDS = {
    "uniform": lambda rng, gauss: rng.uniform(-0.08, 0.08, gauss.size),
    "gaussian": lambda rng, gauss: 0.05 * gauss,
    "heavy-tailed": lambda rng, gauss: np.clip(rng.standard_cauchy(gauss.size) ** 3, -1e38, 1e38),
    "log-normal": lambda rng, gauss: np.exp(5 * gauss),
    "sorted": lambda rng, gauss: np.sort(gauss),
    "reversed": lambda rng, gauss: np.sort(gauss)[::-1],
    "constant": lambda rng, gauss: np.full(gauss.size, 0.3),
    "two-valued": lambda rng, gauss: np.where(gauss > 0, 0.1, -0.1),
    "nine in ten equal": lambda rng, gauss: np.where(gauss > 1.3, gauss, 0.1),
    "few values": lambda rng, gauss: rng.integers(-3, 4, gauss.size) / 8,
    "bfloat16": lambda rng, gauss: (gauss.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32),
    "denormal": lambda rng, gauss: 1e-40 * gauss,
    "few denormals": lambda rng, gauss: 1e-43 * gauss,
    "zeros of both signs": lambda rng, gauss: np.where(gauss > 0, 0.0, -0.0),
    "huge": lambda rng, gauss: 3e37 * gauss,
    "tiny": lambda rng, gauss: 1e-37 * gauss,
    "one outlier": lambda rng, gauss: np.where(np.arange(gauss.size) == gauss.size // 2, 1e30, gauss),
    "around one": lambda rng, gauss: 1 + 1e-4 * gauss,
    "clumps": lambda rng, gauss: np.where(gauss > 0, 1 + 1e-6 * rng.integers(0, 9, gauss.size), gauss),
    "misleading sample": _misleading,
    "all finite numbers": lambda rng, gauss: (
        rng.integers(0, 0x7F800000, gauss.size, np.uint32).view(np.float32) * np.sign(gauss)
    ),
}


def row(kind: str, n: int) -> np.ndarray:
    """Weights `[n]` float32; the same ones every time."""
    rng = np.random.default_rng(n)
    return np.ascontiguousarray(KINDS[kind](rng, rng.standard_normal(n)), np.float32)


def stable_rank(w: np.ndarray) -> np.ndarray:
    """Ranks `[n]` by numpy's stable sort."""
    rank = np.empty(w.size, np.int64)
    rank[np.argsort(w, kind="stable")] = np.arange(w.size)
    return rank


def rows(n: int) -> dict[str, np.ndarray]:
    """Weights `[n]` float64 of the kinds that every kernel, on a CPU or a GPU, is held to."""
    rng = np.random.default_rng(n)
    gauss = rng.standard_normal(n)
    return {
        "uniform": rng.uniform(-0.08, 0.08, n),
        "gaussian": gauss,
        "heavy-tailed": rng.standard_cauchy(n) ** 3,
        "sorted": np.sort(gauss),
        "reversed": np.sort(gauss)[::-1],
        "constant": np.full(n, 0.25),
        "two-valued": rng.choice([-1.0, 1.0], n),
        "zeros of both signs": rng.choice([-0.0, 0.0], n),
        "few values": rng.integers(-3, 4, n) / 8,
        "denormals": gauss * 1e-41,
        "huge": gauss * 1e37,
        "tiny": gauss * 1e-30,
        "one outlier": np.where(np.arange(n) == n // 2, 1e30, gauss),
    }
