"""Maps each top-level folder to the package `triptych.<folder>`; everything else is in pyproject.toml."""

from setuptools import find_packages, setup

FOLDERS = ("launch", "configs", "trainer", "models", "kernels", "data_pipelines")
PACKAGES = [name for top in FOLDERS for name in (top, *(f"{top}.{sub}" for sub in find_packages(top)))]
setup(packages=[f"triptych.{name}" for name in PACKAGES], package_dir={f"triptych.{top}": top for top in FOLDERS})
