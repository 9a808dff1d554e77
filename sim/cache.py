"""Content-addressed cache of generated Verilog and compiled models.

An entry is a folder that is built beside its final place and renamed into it, so that it is either
whole or absent however its builder ends. One process builds an entry while others wait for it; the
lock that makes them wait goes away with the process that holds it.

Whenever an entry has been built, the entries used least recently are removed until the cache is no
larger than ``$PEARRAY_CACHE_MB`` megabytes (1,000 by default). Entries used within the last hour stay,
so nobody loses one between finding and using it.
"""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..hdl.errors import PearrayError

__all__ = ["digest", "digest_of", "entry", "find", "folder", "sources_digest"]

_MANIFEST = "manifest.json"
_DEFAULT_MB = "1000"
_KEEP_S = 3600


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
    """Hash files, or the Python files of folders and the folders in them, by name and content."""
    files: list[tuple[str, Path]] = []
    for path in paths:
        if path.is_dir():
            files += [(str(file.relative_to(path)), file) for file in sorted(path.rglob("*.py"))]
        else:
            files.append((path.name, path))
    return digest(*(part for name, file in files for part in (name, file.read_bytes())))


def find(kind: str, key: str) -> Path | None:
    """Folder of an entry, or None if there is no whole one."""
    place = folder() / kind / key
    if not _is_whole(place):
        return None
    with suppress(OSError):
        os.utime(place / _MANIFEST)
    return place


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
        If the cache folder cannot be written, or its limit is no number.
    """
    limit = _limit()
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
    _prune(limit)
    return place, True


def _limit() -> int:
    """Bytes that the cache may take."""
    text = os.environ.get("PEARRAY_CACHE_MB") or _DEFAULT_MB
    if not text.isdecimal():
        raise PearrayError(f"PEARRAY_CACHE_MB must be a number of megabytes, not {text!r}")
    return int(text) * 1_000_000


def _prune(limit: int) -> None:
    """Remove entries, beginning with the one used least recently, until the rest is within the limit."""
    entries = []
    total = 0
    for manifest in folder().glob(f"*/*/{_MANIFEST}"):
        # Another process may remove the entry meanwhile.
        with suppress(OSError):
            size = sum(file.stat().st_size for file in manifest.parent.iterdir())
            entries.append((manifest.stat().st_mtime, size, manifest.parent))
            total += size
    for used, size, place in sorted(entries):
        if total <= limit or used > time.time() - _KEEP_S:
            break
        # The lock's file stays: whoever waits for it must not get another one than who comes next.
        with suppress(OSError), _locked(place.with_suffix(".lock")):
            _remove(place)
            total -= size


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
