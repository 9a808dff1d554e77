"""Deep-learning accelerators as RTL from Python, proved against NumPy."""

from pathlib import Path

# In a checkout the subpackages stand beside this folder, so that `import pearray` from the root of
# the repository finds the same code whether or not the package is installed.
_root = Path(__file__).parents[1]
if (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))
