"""Deep-learning accelerators as RTL from Python, proved against NumPy.

Everything public is here and is imported when first used, so ``import pearray`` costs
milliseconds and needs none of the optional dependencies.
"""

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# In a checkout the subpackages stand beside this folder, so that `import pearray` from the root of
# the repository finds the same code whether or not the package is installed.
_root = Path(__file__).parents[1]
if (_root / "pyproject.toml").is_file():
    __path__.append(str(_root))

if TYPE_CHECKING:
    from .configuration import load_config as load_config
    from .configuration import presets as presets
    from .hdl.config import Config as Config
    from .hdl.errors import PearrayError as PearrayError

#: Public names and the modules that define them.
_PUBLIC = {
    "Config": "hdl.config",
    "PearrayError": "hdl.errors",
    "load_config": "configuration",
    "presets": "configuration",
}

__all__ = list(_PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
