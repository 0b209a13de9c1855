"""Sweep files and settings of any content: ``plan`` takes them or names what is wrong, and writes nothing."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from orchestrator.config.load import config_values, dotted_keys, load_sweep
from tests.conftest import sweep_text
from tests.fuzz.command import Ended, contents, told
from tests.fuzz.edits import EDITS, NUMBERS, REMOVED, VALUES, WORDS, Edit, edited, paths_of, replaced
from tests.fuzz.explore import explore

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(0)]
ROOT = Path(__file__).parents[2]
PRIVATE = "a word that no sweep may read"
LEFT_OUT = (
    "s3://",
    "gs://",
    "image_folder",
)  # stores, which `plan` asks what is there; weights that take a second
SWEEPS = tuple(
    path
    for path in sorted((ROOT / "sweeps").glob("**/*.yaml"))
    if "metadata:" in path.read_text() or "benchmark:" in path.read_text()
    if not any(word in path.read_text() for word in LEFT_OUT)
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an empty current folder, without data and with a variable that nobody may read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SUPSUP_DATA", raising=False)
    monkeypatch.delenv("SUPSUP_ALLOW_ENV", raising=False)
    monkeypatch.setenv("SUPSUP_FUZZ_SECRET", PRIVATE)
    return tmp_path


def planned(folder: Path, content: bytes, settings: Sequence[str] = ()) -> Ended:
    """Plan a sweep file of this content and check that this writes nothing and tells no secret."""
    path = folder / "sweep.yaml"
    path.write_bytes(content)
    before = contents(folder)
    ended = told("plan", "sweep.yaml", *settings, codes=(0, 2))
    assert contents(folder) == before
    assert PRIVATE not in ended.out + ended.err
    return ended


def is_local(text: bytes | str) -> bool:
    """Return whether no store is asked over the network."""
    found = text if isinstance(text, bytes) else text.encode(errors="replace")
    return not re.search(rb"\w+://", found.replace(b"sqlite://", b"").replace(b"http://127.0.0.1", b""))


# Pieces that mean something to YAML or to OmegaConf.
PIECES = st.sampled_from(
    [
        *(
            b"${oc.env:SUPSUP_FUZZ_SECRET}",
            b"${oc.env:HOME,x}",
            b"${seed}",
            b"${name}",
            b"${..seed}",
            b"${",
            b"???",
        ),
        *(b"${oc.decode:'[1'}", b"${oc.create:{a: 1}}", b"${oc.select:seed}", b"${oc.dict.keys:training}"),
        *(
            b"&a",
            b"*a",
            b"<<: *a",
            b"&a [*a]",
            b"!!python/object:os.system x",
            b"!!binary x",
            b"!!set {x}",
            b"!x",
        ),
        *(
            b"\t",
            b"\n",
            b"- ",
            b": ",
            b"? ",
            b"{",
            b"[",
            b"|",
            b">",
            b"'",
            b'"',
            b"---\n",
            b"...\n",
            b"%YAML 9\n",
            b"#",
        ),
        *(
            b"1_0",
            b"0x10",
            b"1e400",
            b".inf",
            b"-.nan",
            b"1:2:3",
            b"010",
            b"2001-01-01",
            b"on",
            b"~",
            b"null",
            b"9" * 5000,
        ),
        *(
            b"\xff\xfe",
            b"\xef\xbb\xbf",
            b"\0",
            b"\xe9",
            b"\xed\xa0\x80",
            "\u2028".encode(),
            b"\x1b[31m",
            b"[red]",
        ),
    ]
)
PIECE_EDITS = st.lists(
    st.builds(Edit, st.sampled_from(("insert", "overwrite")), st.floats(0, 1), PIECES), min_size=1, max_size=3
)


def test_an_edited_sweep_file_is_taken_or_refused(folder):
    def taken_or_refused(case: tuple[Path, list[Edit], list[Edit]]) -> None:
        path, pieces, edits = case
        content = edited(edited(path.read_bytes(), pieces), edits)
        if is_local(content):
            planned(folder, content)

    explore(taken_or_refused, st.tuples(st.sampled_from(SWEEPS), PIECE_EDITS, st.just([]) | EDITS))


INTERPOLATIONS = st.sampled_from(
    [
        "${oc.env:SUPSUP_FUZZ_SECRET}",
        "${seed}",
        "${training}",
        "${.lr}",
        "${nowhere}",
        "${oc.decode:'['}",
        "${a:1}",
    ]
)
ODD = st.sampled_from(
    [
        [10**9] * 5,
        [65_536] * 3,
        [1] * 5000,
        10**9,
        999_999,
        2**63,
        -(10**30),
        "1e-4",
        "auto",
        "all",
        "none",
        [[]],
        {"a": {}},
    ]
)
ANY_VALUE = VALUES | ODD | INTERPOLATIONS | st.dates() | st.binary(max_size=4) | st.just(REMOVED)
ENCODINGS = st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1", "utf-32"])
NEW_KEYS = (
    WORDS | st.sampled_from(["sed", "1", "", "benchmark.kind", "training", "~"]) | st.integers() | st.none()
)


@dataclass(frozen=True)
class NewValue:
    """A value at a place, a fraction of all places, of a sweep. key: a new key there, None for none."""

    where: float
    value: Any
    key: Any = None

    def put(self, sweep: Any) -> tuple[Any, tuple[Any, ...]]:
        """Return the sweep with the value, and the path to it."""
        places = paths_of(sweep)[1:]
        if not places:
            return sweep, ()
        path = places[int(self.where * len(places))]
        path = path if self.key is None or isinstance(path[-1], int) else (*path[:-1], self.key)
        return replaced(sweep, path, self.value), path


def sweep_of(path: Path) -> Any:
    """Return the plain values of a shipped sweep."""
    content = yaml.safe_load(path.read_text())
    return content["metadata"]["sweep"] if "metadata" in content else content


def yaml_text(value: Any, *, flow: bool) -> str | None:
    """Return a value as YAML, None for one that has no such form."""
    try:
        return yaml.safe_dump(value, allow_unicode=True, default_flow_style=flow, sort_keys=False)
    except (yaml.YAMLError, TypeError):
        return None


NEW_VALUES = st.builds(
    NewValue, st.floats(0, 1, exclude_max=True), ANY_VALUE, st.just(None) | st.just(None) | NEW_KEYS
)


def test_a_value_of_any_type_is_taken_or_refused_by_its_key(folder):
    bases = {path: sweep_of(path) for path in SWEEPS}

    def taken_or_named(case: tuple[Path, NewValue, bool, str]) -> None:
        path, new, flow, encoding = case
        value = None if new.key is not None and new.value == REMOVED else new
        sweep, place = (bases[path], ()) if value is None else value.put(bases[path])
        text = yaml_text(sweep, flow=flow)
        if text is None or not is_local(text):
            return
        ended = planned(
            folder, text.encode(encoding, errors="surrogatepass" if "utf" in encoding else "replace")
        )
        if ended.code == 2 and encoding == "utf-8" and isinstance(new.value, int | float | list | bool):
            assert any(str(key) in ended.err for key in place), f"{place} is not named: {ended.err}"

    cases = st.tuples(st.sampled_from(SWEEPS), NEW_VALUES, st.booleans(), ENCODINGS)
    explore(taken_or_named, cases)


def test_yaml_that_grows_when_read_is_refused(folder):
    base = sweep_text(folder / "runs")

    def bounded(case: tuple[str, int, int, str]) -> None:
        key, depth, width, leaf = case
        lists = [f"a0: &a0 [{', '.join([leaf] * width)}]"]
        lists += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, depth)]
        planned(folder, ("\n".join([base, *lists, f"{key}: *a{depth - 1}", ""])).encode())
        planned(
            folder, (base + f"{key}: " + "[" * depth * width + leaf + "]" * depth * width + "\n").encode()
        )
        chain = "".join(f"b{n}: ${{b{n + 1}}}${{b{n + 1}}}\n" for n in range(depth))
        planned(folder, (base + chain + f"b{depth}: xx\n").encode())

    keys = st.sampled_from(["name", "seed", "x", "search", "training"])
    explore(
        bounded,
        st.tuples(keys, st.integers(1, 20), st.integers(1, 20), st.sampled_from(["x", "1", "${seed}"])),
    )


def test_settings_of_any_text_are_taken_or_refused(folder):
    base = sweep_text(folder / "runs").encode()
    (folder / "sweep.yaml").write_bytes(base)
    keys = sorted(dotted_keys(config_values(load_sweep(folder / "sweep.yaml"))))
    spaces = [f"search.space.{key}" for key in ("seed", "training.optimizer.lr", "benchmark.num_tasks")]
    names = st.sampled_from([*keys, *spaces, "search.samples", "search.scheduler", "search"]) | WORDS
    pieces = PIECES.map(lambda piece: piece.decode("utf-8", "surrogateescape"))
    values = st.one_of(
        WORDS, pieces, NUMBERS.map(str), ANY_VALUE.map(lambda value: yaml_text(value, flow=True) or "")
    )
    texts = st.lists(
        st.tuples(names, st.sampled_from(["=", "=", "=", "", "=="]), values).map("".join),
        min_size=1,
        max_size=3,
    )

    def taken_or_refused_setting(settings: list[str]) -> None:
        if is_local(" ".join(settings)):
            planned(folder, base, ["--", *settings])

    explore(taken_or_refused_setting, texts)
