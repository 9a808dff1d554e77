"""Agreement of the reference pages with the code that they describe."""

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"

spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
pages = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pages)


@pytest.mark.parametrize("name", pages.PAGES)
def test_page_is_up_to_date(name):
    """A host programmed from a stale page would write to the wrong register or field."""
    assert (DOCS / name).read_text() == pages.PAGES[name](), "run `python docs/generate.py`"
