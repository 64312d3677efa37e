"""Packages of fastplast. The folder ``kernels/`` installs as ``fastplast_kernels``: the bare name is taken on PyPI."""

from setuptools import find_packages, setup

kernel_packages = ["fastplast_kernels"] + [f"fastplast_kernels.{name}" for name in find_packages("kernels")]

setup(
    packages=find_packages(include=["fastplast", "fastplast.*"]) + kernel_packages,
    package_dir={"fastplast_kernels": "kernels"},
    package_data={
        "fastplast": ["py.typed", "data/embedded/*", "drawing/*.mplstyle", "reports/assets/*", "reports/templates/*"]
    },
)
