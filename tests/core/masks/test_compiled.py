"""numba's cache: where it has no place beside the source nor at home, on a full disk, and cut off."""

import errno

import numba
import pytest
from numba.core import caching

from core.masks import compiled


def twice(x):
    return 2 * x


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """Leave numba no place of its own."""
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [caching.UserProvidedCacheLocator])
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(compiled.tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(cache=True)(twice)


@pytest.fixture
def kept(monkeypatch, tmp_path):
    """Have numba keep what it compiles in a folder of the test."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_a_full_disk_costs_what_would_have_been_kept(kept, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", full)
    assert compiled.compiler()(twice)(4) == 8
    monkeypatch.undo()
    assert not list(kept.rglob("*.nbc"))


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
def test_a_file_that_was_cut_off_is_made_again(kept, suffix):
    assert compiled.compiler()(twice)(4) == 8
    (path,) = kept.rglob(f"*.{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert compiled.compiler()(twice)(4) == 8
    assert len(path.read_bytes()) == len(whole)
    again = compiled.compiler()(twice)
    assert again(4) == 8
    assert again.stats.cache_hits


def test_a_temporary_folder_takes_its_place(nowhere, tmp_path):
    assert compiled.compiler(nogil=True)(twice)(4) == 8
    assert list((tmp_path / compiled.TEMPORARY).rglob("*.nbi"))
    assert (tmp_path / compiled.TEMPORARY).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["open to all", "a link", "a file"])
def test_a_folder_that_is_not_ours_alone_is_not_used(nowhere, tmp_path, kind):
    path = tmp_path / compiled.TEMPORARY
    if kind == "open to all":
        path.mkdir()
        path.chmod(0o777)
    elif kind == "a link":
        path.symlink_to(tmp_path)
    else:
        path.write_text("")
    assert compiled.compiler()(twice)(4) == 8
    assert not list(tmp_path.rglob("*.nbi"))
