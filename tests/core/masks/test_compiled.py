"""numba's cache, on machines where it has no place beside the source nor at home."""

import numba
import pytest
from numba.core import caching

from core.masks import compiled


def twice(x):
    return 2 * x


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """Leave numba no place of its own."""
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [caching.UserProvidedCacheLocator])
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setattr(compiled.tempfile, "gettempdir", lambda: str(tmp_path))
    with pytest.raises(RuntimeError, match="no locator available"):
        numba.njit(cache=True)(twice)


def test_a_temporary_folder_takes_its_place(tmp_path):
    assert compiled.compiler(nogil=True)(twice)(4) == 8
    assert list((tmp_path / compiled.TEMPORARY).rglob("*.nbi"))
    assert (tmp_path / compiled.TEMPORARY).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["open to all", "a link", "a file"])
def test_a_folder_that_is_not_ours_alone_is_not_used(tmp_path, kind):
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
