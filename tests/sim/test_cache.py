"""The cache of Verilog and compiled models."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pearray import PearrayError
from pearray.sim import cache


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PEARRAY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def fill(folder):
    (folder / "model").write_text("content")


def forbidden(folder):
    raise AssertionError("built again")


def test_second_time_is_not_built():
    """A cache that rebuilds makes every run pay for the compiler."""
    place, built = cache.entry("kind", "key", fill)
    assert built
    assert (place / "model").read_text() == "content"
    assert cache.entry("kind", "key", forbidden) == (place, False)


@pytest.mark.parametrize("damage", ["truncate", "remove", "manifest", "no manifest"])
def test_damaged_entry_is_rebuilt(damage):
    """A full disk or a crash must not leave a model that runs wrongly or never again."""
    place, _ = cache.entry("kind", "key", fill)
    match damage:
        case "truncate":
            (place / "model").write_text("con")
        case "remove":
            (place / "model").unlink()
        case "manifest":
            (place / "manifest.json").write_text("[")
        case "no manifest":
            (place / "manifest.json").unlink()
    assert cache.entry("kind", "key", fill) == (place, True)
    assert (place / "model").read_text() == "content"


def test_failed_build_leaves_nothing(folder):
    """What a failed build wrote must not be taken for an entry."""
    def fail(folder):
        fill(folder)
        raise PearrayError("no")

    with pytest.raises(PearrayError, match=r"^no$"):
        cache.entry("kind", "key", fail)
    assert [path.name for path in (folder / "kind").iterdir() if path.suffix != ".lock"] == []
    assert cache.entry("kind", "key", fill)[1]


BUILD = """
import sys, time
from pathlib import Path
from pearray.sim import cache
def build(folder):
    with open(sys.argv[1], "a") as log:
        log.write("build\\n")
    (folder / "model").write_text("half")
    time.sleep(float(sys.argv[2]))
    (folder / "model").write_text("content")
place, built = cache.entry("kind", "key", build)
assert (place / "model").read_text() == "content"
"""


def start(log, seconds):
    return subprocess.Popen([sys.executable, "-c", BUILD, str(log), str(seconds)])


def wait_for(log):
    deadline = time.monotonic() + 30
    while not log.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_concurrent_processes_build_once(tmp_path):
    """Two runs at once must not see one another's half-built model, nor compile it twice."""
    log = tmp_path / "log"
    processes = [start(log, 0.5) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert log.read_text() == "build\n"


def test_killed_builder_leaves_no_entry(tmp_path):
    """A run killed while it compiles must block nobody, and its remains must not be used."""
    log = tmp_path / "log"
    process = start(log, 60)
    wait_for(log)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    assert start(log, 0).wait(60) == 0
    assert log.read_text() == "build\nbuild\n"


def test_unwritable_folder_is_reported(tmp_path, monkeypatch):
    """The message must name the way out."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("PEARRAY_CACHE", str(blocked))
    with pytest.raises(PearrayError, match="PEARRAY_CACHE"):
        cache.entry("kind", "key", fill)


def test_keys_depend_on_boundaries_of_parts():
    """Two inputs that only concatenate to the same text are different inputs."""
    assert cache.digest("ab", "c") != cache.digest("a", "bc")


def test_sources_in_subfolders_count(tmp_path):
    """An edit of a file in a folder below would run on the Verilog of before."""
    below = tmp_path / "below"
    below.mkdir()
    (tmp_path / "a.py").write_text("a = 1")
    seen = {cache.sources_digest([tmp_path])}
    for name in ("b.py", "c.py"):
        (below / name).write_text("b = 1")
        seen.add(cache.sources_digest([tmp_path]))
    (below / "c.py").rename(tmp_path / "c.py")
    seen.add(cache.sources_digest([tmp_path]))
    assert len(seen) == 4


def test_least_recently_used_goes_first(folder, monkeypatch):
    """A cache without limit fills the disk; one that drops what is in use compiles for ever."""
    def megabyte(folder):
        (folder / "model").write_bytes(bytes(600_000))

    monkeypatch.setenv("PEARRAY_CACHE_MB", "2")
    for age, key in enumerate("dcba"):
        place, _ = cache.entry("kind", key, megabyte)
        os.utime(place / "manifest.json", (time.time() - 86_400 * (9 - age),) * 2)
    assert cache.find("kind", "d") is None
    assert cache.find("kind", "c") is not None  # Now it is the one used last.
    cache.entry("other", "new", megabyte)
    assert [key for key in "abcd" if cache.find("kind", key)] == ["a", "c"]
    cache.entry("other", "newer", megabyte)
    assert [key for key in "abcd" if cache.find("kind", key)] == ["a", "c"]  # Used within the hour.


def test_limit_must_be_a_number(monkeypatch):
    """A limit that is silently ignored isn't one."""
    monkeypatch.setenv("PEARRAY_CACHE_MB", "2G")
    with pytest.raises(PearrayError, match=r"^PEARRAY_CACHE_MB must be a number of megabytes, not '2G'$"):
        cache.entry("kind", "key", fill)
