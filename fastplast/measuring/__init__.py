"""What is measured of a group at a task's start and end."""

from fastplast.measuring.metric import Metric, Snapshot
from fastplast.measuring.metrics import METRICS, register

__all__ = ["METRICS", "Metric", "Snapshot", "register"]
