"""Sweeps: a grid becomes members, members become groups, groups become shards, and shards are runs."""

from fastplast.sweeps.cluster import address_of, execute_on_cluster
from fastplast.sweeps.execute import execute
from fastplast.sweeps.grid import Grid, expand, grid_of, read_grid
from fastplast.sweeps.plan import Shard, SweepPlan, make_plan, parse_slice
from fastplast.sweeps.request import read_request
from fastplast.sweeps.sweep import Sweep

__all__ = [
    "Grid",
    "Shard",
    "Sweep",
    "SweepPlan",
    "address_of",
    "execute",
    "execute_on_cluster",
    "expand",
    "grid_of",
    "make_plan",
    "parse_slice",
    "read_grid",
    "read_request",
]
