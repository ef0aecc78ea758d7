"""No file of the repository says where packages come from: that is the business of whoever installs them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Put together here, so that this file does not contain what it looks for.
FORBIDDEN = [
    b"pypi" + b".org",
    b"python" + b"hosted.org",
    b"npm" + b"js",
    b"--" + b"index-url",
    b"--" + b"extra-index-url",
]


def repository_files() -> Iterator[Path]:
    """Gives the tracked files, and those about to be."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    paths = (ROOT / name for name in listing.stdout.split("\0") if name)
    yield from (path for path in paths if path.is_file())


def registries_named_in(content: bytes) -> list[bytes]:
    lowered = content.lower()
    return [words for words in FORBIDDEN if words in lowered]


def test_no_file_names_a_package_registry():
    named = {str(path.relative_to(ROOT)): registries_named_in(path.read_bytes()) for path in repository_files()}
    assert {name: words for name, words in named.items() if words} == {}


def test_the_search_covers_the_requirement_files():
    assert ROOT / "requirements" / "base.txt" in set(repository_files())


@pytest.mark.parametrize("words", FORBIDDEN)
def test_the_search_would_find_a_registry(words):
    assert registries_named_in(b"see HTTPS://" + words.upper() + b"/simple") == [words]
