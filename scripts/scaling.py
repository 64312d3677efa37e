"""What a sweep of 10,000 members and 100 tasks takes on many cores, for docs/scaling.md: simulated from measured rates.

Batches are trained one after another on each worker; nodes die at random and come back; a batch goes on elsewhere from
its last checkpoint. ``python scripts/scaling.py --write`` writes the table.
"""

from __future__ import annotations

import argparse
import heapq
import random
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scaling.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
MEMBERS, TASKS, UPDATES = 10_000, 100, 16_000  # updates of a task
HOUR = 3600.0


@dataclass(frozen=True)
class Cluster:
    """What is simulated; times in seconds.

    Attributes:
        workers: that train a batch each at once.
        per_node: of them on a node, which die together.
        start: that a process takes before it trains.
        checkpoint: between two checkpoints.
        between_deaths: of a node, on average.
        notice: until a dead node's batches are given to others.
        repair: until a dead node is back.
    """

    workers: int
    per_node: int = 32
    start: float = 30.0
    checkpoint: float = 300.0
    between_deaths: float = 100 * HOUR
    notice: float = 90.0
    repair: float = 2 * HOUR


@dataclass(frozen=True)
class Outcome:
    """What a simulation came to.

    Attributes:
        seconds: until the last batch ended.
        used: core-seconds in which a worker was busy.
        deaths: of nodes.
    """

    seconds: float
    used: float
    deaths: int


def simulate(work: list[float], cluster: Cluster, seed: int = 0) -> Outcome:
    """Trains batches on a cluster.

    Args:
        work: core-seconds of each batch.
        cluster: on which.
        seed: of the deaths of nodes.

    Returns:
        What it came to.
    """
    rng, nodes = random.Random(seed), -(-cluster.workers // cluster.per_node)
    death = [rng.expovariate(1 / cluster.between_deaths) for _ in range(nodes)]
    up = [0.0] * nodes  # since when a node lives
    free = [(0.0, worker) for worker in range(cluster.workers)]
    waiting = [(0.0, left) for left in sorted(work, reverse=True)]  # since when, and core-seconds that are left
    heapq.heapify(free)
    end = used = 0.0
    deaths = 0
    while waiting:
        (at, worker), (since, left) = heapq.heappop(free), waiting.pop(0)
        node = worker // cluster.per_node
        begun = max(at, since, up[node])
        while death[node] <= begun:
            up[node] = death[node] + cluster.repair
            death[node] = up[node] + rng.expovariate(1 / cluster.between_deaths)
            begun = max(begun, up[node])
            deaths += 1
        over = begun + cluster.start + left
        if over <= death[node]:
            heapq.heappush(free, (over, worker))
            end, used = max(end, over), used + over - begun
            continue
        trained = max(death[node] - begun - cluster.start, 0.0)
        kept = trained // cluster.checkpoint * cluster.checkpoint
        waiting.append((death[node] + cluster.notice, left - kept))
        used += death[node] - begun
        heapq.heappush(free, (death[node], worker))
    return Outcome(end, used, deaths)


def rows(microseconds: float, measuring: float, start: float) -> list[tuple[int, int, Outcome, float]]:
    """The table's rows.

    Args:
        microseconds: of a core, for an update of a member.
        measuring: core-seconds, for a task of a member.
        start: seconds before a process trains.

    Returns:
        Workers, members of a batch, the outcome, and the core-seconds of training and measuring alone.
    """
    found = []
    for workers in (2, 64, 1024, 4096):
        for batch in (10, 100):
            each = TASKS * (UPDATES * microseconds * 1e-6 + measuring)
            work = [batch * each] * (MEMBERS // batch)
            found.append((workers, batch, simulate(work, Cluster(workers, start=start)), MEMBERS * each))
    return found


def table(microseconds: float, measuring: float, start: float) -> str:
    """The rows in Markdown."""
    lines = ["| cores | members of a batch | batches | time | core-hours | of these lost | deaths of nodes |",
             "|---:|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    for workers, batch, found, least in rows(microseconds, measuring, start):
        days = found.seconds / 24 / HOUR
        time = f"{days:,.1f} days" if days >= 2 else f"{found.seconds / HOUR:.1f} h"
        lost = found.used - least
        lines.append(
            f"| {workers:,} | {batch} | {MEMBERS // batch:,} | {time} | {found.used / HOUR:,.0f} | {lost / HOUR:,.1f} "
            f"| {found.deaths} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Prints the table, or writes it into the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--microseconds", type=float, default=89.0, help="of a core, for an update of a member")
    parser.add_argument("--measuring", type=float, required=True, help="core-seconds, for a task of a member")
    parser.add_argument("--start", type=float, required=True, help="seconds before a process trains")
    parser.add_argument("--write", action="store_true", help="write the table into docs/scaling.md")
    options = parser.parse_args()
    text = table(options.microseconds, options.measuring, options.start)
    if options.write:
        page = PAGE.read_text(encoding="utf-8")
        before, _, rest = page.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
