"""Content-addressed cache of generated Verilog and compiled models.

An entry is a folder that is built beside its final place and renamed into it, so that it is either
whole or absent however its builder ends. One process builds an entry while others wait for it; the
lock that makes them wait goes away with the process that holds it.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..hdl.errors import PearrayError

__all__ = ["digest", "digest_of", "entry", "find", "folder", "sources_digest"]

_MANIFEST = "manifest.json"


def folder() -> Path:
    """Root of the cache: ``$PEARRAY_CACHE``, else ``pearray`` in the user's cache folder."""
    if chosen := os.environ.get("PEARRAY_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pearray"


def digest(*parts: str | bytes) -> str:
    """Hash parts into one key; ``("ab", "c")`` and ``("a", "bc")`` have different keys."""
    total = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        total.update(len(data).to_bytes(8, "little"))
        total.update(data)
    return total.hexdigest()


def digest_of(text: str) -> str:
    """Plain SHA-256 of a text, as ``sha256sum`` gives it for the file."""
    return hashlib.sha256(text.encode()).hexdigest()


def sources_digest(paths: list[Path]) -> str:
    """Hash files, or the Python files of folders, by name and content."""
    files: list[Path] = []
    for path in paths:
        files += sorted(path.glob("*.py")) if path.is_dir() else [path]
    return digest(*(part for file in files for part in (file.name, file.read_bytes())))


def find(kind: str, key: str) -> Path | None:
    """Folder of an entry, or None if there is no whole one."""
    place = folder() / kind / key
    return place if _is_whole(place) else None


def entry(kind: str, key: str, build: Callable[[Path], None]) -> tuple[Path, bool]:
    """Find an entry, or build it.

    Parameters
    ----------
    kind : str
        Folder of the entry, such as ``"verilog"``.
    key : str
        Hash of everything that decides the content.
    build : callable
        Is given an empty folder and fills it with files. It must not need that folder's path
        afterwards: the folder is renamed.

    Returns
    -------
    Path
        Folder of the entry; its files are to be read only.
    bool
        Whether it had to be built.

    Raises
    ------
    PearrayError
        If the cache folder cannot be written.
    """
    if (found := find(kind, key)) is not None:
        return found, False
    place = folder() / kind / key
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place.with_suffix(".lock")):
            if _is_whole(place):
                return place, False
            _remove(place)
            partial = place.with_suffix(".partial")
            _remove(partial)
            partial.mkdir()
            try:
                build(partial)
                _seal(partial)
                partial.rename(place)
            finally:
                _remove(partial)
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise PearrayError(f"the cache folder {folder()} must be writable ({error.strerror}); set "
                           "PEARRAY_CACHE to another folder") from error
    return place, True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _seal(place: Path) -> None:
    manifest = {file.name: hashlib.sha256(file.read_bytes()).hexdigest()
                for file in sorted(place.iterdir()) if file.is_file()}
    # The manifest is written last: without it nothing else in the folder counts.
    (place / _MANIFEST).write_text(json.dumps(manifest, indent=1))


def _is_whole(place: Path) -> bool:
    try:
        manifest = json.loads((place / _MANIFEST).read_text())
        return all(hashlib.sha256((place / name).read_bytes()).hexdigest() == expected
                   for name, expected in manifest.items())
    except (OSError, ValueError, AttributeError):
        return False


def _remove(place: Path) -> None:
    if not place.exists():
        return
    # Renamed first, so that no reader ever meets a folder that is half removed.
    doomed = Path(tempfile.mkdtemp(prefix="removed-", dir=place.parent))
    place.rename(doomed / place.name)
    shutil.rmtree(doomed, ignore_errors=True)
