"""Problems: sequences of tasks."""

from fastplast.problems.build import CHANGES, Change, build_problem, make_task
from fastplast.problems.problem import Problem
from fastplast.problems.task import Task

__all__ = ["CHANGES", "Change", "Problem", "Task", "build_problem", "make_task"]
