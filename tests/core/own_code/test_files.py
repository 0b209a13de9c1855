"""The files of the user's own network: found without running any, and covered by one digest."""

import hashlib
import sys
from pathlib import Path

import pytest

from core.errors import ConfigError
from core.own_code.files import code_digest, code_file, code_files, is_code
from core.own_code.imports import find_code
from core.own_code.permission import ALLOW_CODE
from core.specs.own_code import OwnCode

FILES = {
    "net.py": "import torch, blocks\nfrom pkg import one\nfrom pkg.deep.two import name as other\n",
    "blocks.py": "import os\ndef later():\n    import late\n    import missing\n",
    "late.py": "import importlib\nimportlib.import_module('by_name')\n__import__('net')\n",
    "by_name.py": "from space.inner import thing\n",
    "pkg/__init__.py": "from .deep import *\n",
    "pkg/one.py": "from . import three\nfrom .deep.two import name\n",
    "pkg/three.py": "",
    "pkg/deep/__init__.py": "from .. import four\n",
    "pkg/deep/two.py": "from ..five import x\nname = 1\n",
    "pkg/four.py": "",
    "pkg/five.py": "x = 1\n",
    "space/inner.py": "import broken\nthing = 1\n",  # a folder without __init__.py
    "broken.py": "this is no Python (\n",
    "unused.py": "import net\n",
    "pkg/unused.py": "",
}
RUNS = "raise SystemExit('it ran')\n"


def own(path):
    return OwnCode("network.import_path", path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + ("" if name == "broken.py" else RUNS))
    return tmp_path


def test_every_file_that_an_import_may_reach_is_found_and_none_runs(folder):
    found = code_files(own("net:Net"))
    names = {path.relative_to(folder).as_posix() for path in found.values()}
    assert names == FILES.keys() - {"unused.py", "pkg/unused.py"}
    assert found["pkg.deep"] == folder / "pkg/deep/__init__.py"
    assert not {"net", "blocks", "pkg"} & sys.modules.keys()


@pytest.mark.parametrize("name", [name for name in FILES if "unused" not in name])
def test_an_edit_of_any_of_them_is_another_digest(folder, name):
    before = code_digest(own("net:Net"))
    (folder / name).write_text((folder / name).read_text() + "\n")
    assert code_digest(own("net:Net")) != before
    assert not is_code(own("net:Net"), before)


def test_the_digest_does_not_depend_on_the_folder(folder, monkeypatch):
    before = code_digest(own("net:Net"))
    moved = folder.with_name("moved")
    folder.rename(moved)
    monkeypatch.chdir(moved)
    assert code_digest(own("net:Net")) == before


def test_the_digest_of_a_single_file_is_that_of_the_file(folder):
    assert code_digest(own("blocks:x")) != code_digest(own("pkg.five:x"))
    (folder / "alone.py").write_text("import torch\n")
    assert code_digest(own("alone:x")) == hashlib.sha256(b"import torch\n").hexdigest()


def test_a_digest_of_one_file_was_recorded_by_earlier_versions(folder):
    for name in ("net.py", "pkg/one.py"):
        assert is_code(own("net:Net"), hashlib.sha256((folder / name).read_bytes()).hexdigest())
    assert not is_code(own("net:Net"), hashlib.sha256((folder / "unused.py").read_bytes()).hexdigest())


def test_of_an_installed_network_its_package_is_covered(folder, monkeypatch):
    place = folder / "lib" / "site-packages"
    for name, text in {
        "nets/__init__.py": "from . import a\nimport libx",
        "nets/a.py": "",
        "libx.py": "",
    }.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    monkeypatch.syspath_prepend(place)
    assert code_files(own("nets:a")).keys() == {"nets", "nets.a"}


@pytest.mark.parametrize(
    "path", ["nowhere:x", "pkg.nowhere:x", "space:x", "os:system", "sys:exit", "json.decoder:x"]
)
def test_what_is_no_file_of_the_users_is_refused(folder, path):
    with pytest.raises(ConfigError, match=r"network\.import_path.*expected"):
        code_file(own(path))


def test_a_name_that_another_module_has_is_refused(folder, monkeypatch):
    monkeypatch.setenv(ALLOW_CODE, "1")
    (folder / "yaml.py").write_text("Net = dict\n")
    import yaml

    with pytest.raises(ConfigError, match="has the same name and was imported before"):
        find_code(own("yaml:Net"))
    assert sys.modules["yaml"] is yaml


def test_the_user_s_path_is_not_searched_before_it_is_allowed(folder, monkeypatch):
    monkeypatch.delenv(ALLOW_CODE, raising=False)
    before = list(sys.path)
    with pytest.raises(ConfigError, match="--allow-code"):
        find_code(own("net:Net"))
    assert sys.path == before
    assert Path.cwd() == folder
