"""Problems: sequences of tasks."""

from fastplast.problems.build import build_problem, make_task
from fastplast.problems.changes import CHANGES, Change, register
from fastplast.problems.problem import Problem
from fastplast.problems.task import Task

__all__ = ["CHANGES", "Change", "Problem", "Task", "build_problem", "make_task", "register"]
