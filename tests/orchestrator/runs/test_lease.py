"""The lease of a run in an object store, on a clock that moves only when somebody sleeps."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from core.errors import RunFolderError, RunLockedError, StoreError
from orchestrator.runs import lock
from orchestrator.runs.lock import LEASE_S, RENEW_S, is_locked, lock_holder, locked
from storage.layout import RunLayout
from storage.locations import ObjectPath, to_location
from tests.orchestrator.fakes import Clock

NOW_S = 1_000_000.0  # by wall clock
LAYOUT = RunLayout(to_location("s3://bucket/run"))
POLLS = 100  # more of them would be a loop that does not end
READ_BACK_S = 0.5


def holder(host="elsewhere", process_id=7, age_s=0.0, **more):
    return json.dumps({"host": host, "process_id": process_id, "renewed_s": NOW_S - age_s} | more).encode()


def refuse(*_):
    raise StoreError("no answer\nand more lines")


@dataclass
class World(Clock):
    """A store with one object, and the clock: what others write comes while somebody sleeps. None: no object."""

    content: bytes | None = None
    others: dict[float, bytes | None] = field(default_factory=dict)
    num_reads: int = 0
    on_write: Callable[[bytes], None] = lambda _: None

    def monotonic(self):
        return self.now_s

    def time(self):
        return NOW_S + self.now_s

    def sleep(self, seconds):
        super().sleep(seconds)
        for due_s in [due_s for due_s in self.others if due_s <= self.now_s]:
            self.content = self.others.pop(due_s)

    def read(self):
        self.num_reads += 1
        assert self.num_reads < POLLS, "reads the lease again and again"
        if self.content is None:
            raise FileNotFoundError("no such object")
        return self.content

    def write(self, content):
        self.on_write(content)
        self.content = content


def pid_exists(process_id):
    if process_id >= 2**31:
        raise OverflowError("signed integer is greater than maximum")
    return process_id == 8


@pytest.fixture
def world(monkeypatch):
    """Pretend to be on a machine called ``here``, on which only process 8 runs."""
    world = World()
    monkeypatch.setattr(lock, "time", world)
    monkeypatch.setattr(lock, "host_name", lambda: "here")
    monkeypatch.setattr(lock, "os", SimpleNamespace(getpid=lambda: 8))
    monkeypatch.setattr(lock.psutil, "pid_exists", pid_exists)
    monkeypatch.setattr(ObjectPath, "read_bytes", lambda _: world.read())
    monkeypatch.setattr(ObjectPath, "write_bytes", lambda _, content: world.write(content))
    return world


DEAD_OR_DAMAGED = {
    "none": None,
    "let go": b"",
    "null": b"null",
    "ended": holder(host="here", process_id=9),
    "cut": b'{"host": "elsewhe',
    "list": b"[1, 2]",
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "no host": holder(host=None),
    "no number": holder(process_id="7"),
    "no time": b'{"host": "elsewhere", "process_id": 7}',
    "no process": b'{"host": "here", "process_id": 18446744073709551616, "renewed_s": 1000000.0}',
    "no end": b'{"host": "elsewhere", "process_id": 7, "renewed_s": Infinity}',
    "nan": b'{"host": "elsewhere", "process_id": 7, "renewed_s": NaN}',
}
FREE = [pytest.param(content, id=name) for name, content in DEAD_OR_DAMAGED.items()]


@pytest.mark.parametrize("content", FREE)
def test_a_lease_of_nobody_is_free_and_taken_at_once(world, content):
    world.content = content
    assert not is_locked(LAYOUT)
    with locked(LAYOUT):
        assert world.now_s == READ_BACK_S
        assert is_locked(LAYOUT)
        assert lock_holder(LAYOUT) == "process 8 on here"
    assert world.content == b""
    assert not is_locked(LAYOUT)


@pytest.mark.parametrize(
    ("content", "is_held"),
    [
        (holder(host="here", process_id=8), True),
        (holder(), True),
        (holder(age_s=20.0), True),
        (holder(age_s=20.5), False),
        (holder(host="here", process_id=8, age_s=20.5), False),
        (holder(age_s=-3600.0), True),  # a clock that is an hour ahead
    ],
    ids=("ours", "elsewhere", "20 s", "old", "ours, old", "ahead"),
)
def test_a_lease_counts_as_held_while_its_holder_lives_and_renews_it(world, content, is_held):
    world.content = content
    assert is_locked(LAYOUT) == is_held


@pytest.mark.parametrize(
    ("age_s", "wait_s"),
    [(0.0, 20.0), (-3600.0, 20.0), (600.0, 20.0), (601.0, 0.0)],
    ids=("new", "ahead", "10 min", "older"),
)
def test_a_lease_of_another_machine_is_taken_once_it_is_seen_unchanged_for_long(world, age_s, wait_s):
    world.content = holder(age_s=age_s)
    with locked(LAYOUT):
        assert world.now_s == wait_s + READ_BACK_S


@pytest.mark.parametrize(
    "content", [one for one in FREE if one.id != "ended"]
)  # that one is news of a holder
def test_a_lease_that_is_let_go_while_somebody_waits_is_taken_then(world, content):
    world.content, world.others = holder(), {3.0: content}
    with locked(LAYOUT):
        assert world.now_s == 3.0 + READ_BACK_S


@pytest.mark.parametrize("process_id", [7, 6], ids=("renewed", "taken by a third one"))
def test_a_lease_that_changes_while_somebody_waits_is_held(world, process_id):
    world.content, world.others = holder(), {3.0: holder(process_id=process_id, age_s=-3.0)}
    words = f"already running: s3://bucket/run is held by process {process_id} on elsewhere"
    with pytest.raises(RunLockedError, match=words), locked(LAYOUT):
        pass
    assert world.now_s == 3.0


def test_a_living_process_of_this_machine_is_not_waited_for(world):
    world.content = before = holder(host="here", process_id=8)
    with pytest.raises(RunLockedError, match="is held by process 8 on here"), locked(LAYOUT):
        pass
    assert world.now_s == 0.0
    assert world.content == before


@pytest.mark.parametrize(
    ("content", "words"),
    [(holder(), "process 7 on elsewhere"), (holder(lease="x"), "process 7 on elsewhere")]
    + [(content, "another process") for content in (None, b"")],
    ids=("no lease", "other lease", "gone", "let go"),
)
def test_of_two_that_take_a_free_lease_the_first_one_finds_out(world, content, words):
    world.others = {READ_BACK_S / 2: content}
    with pytest.raises(RunLockedError, match=f"s3://bucket/run was just taken by {words}"), locked(LAYOUT):
        pass
    assert world.content == content


def test_each_holder_has_a_lease_of_its_own(world):
    leases = set()
    for _ in range(3):
        with locked(LAYOUT):
            leases.add(json.loads(world.content)["lease"])
    assert len(leases) == 3


def test_a_lease_is_renewed_several_times_before_it_expires():
    assert LEASE_S >= 4 * RENEW_S


def test_a_lease_is_renewed_also_after_the_store_refused_once(world, monkeypatch):
    monkeypatch.setattr(lock, "RENEW_S", 0.001)
    written, renewed = [], threading.Event()

    def on_write(content):
        written.append(content)
        if len(written) == 2:
            world.now_s += 100.0
            refuse()
        if len(written) == 4:
            renewed.set()

    world.on_write = on_write
    with locked(LAYOUT):
        assert renewed.wait(30.0)
        assert is_locked(LAYOUT)
    assert json.loads(written[2]) == json.loads(written[0]) | {"renewed_s": world.time()}


def test_a_lease_that_ends_while_it_is_renewed_stays_let_go(world, monkeypatch):
    monkeypatch.setattr(lock, "RENEW_S", 0.001)
    renewing, let_go = threading.Event(), threading.Event()

    def on_write(content):
        if not content:
            let_go.set()
        elif threading.current_thread() is not threading.main_thread():
            renewing.set()
            let_go.wait(0.05)

    world.on_write = on_write
    with locked(LAYOUT):
        assert renewing.wait(30.0)
    assert not any(thread.name == "lease" for thread in threading.enumerate())
    assert world.content == b""


@pytest.mark.parametrize("what", ["read", "on_write"])
def test_a_store_that_refuses_is_told_in_one_line_with_what_to_do(world, monkeypatch, what):
    monkeypatch.setattr(world, what, refuse)
    words = r"cannot use the run folder s3://bucket/run \(no answer\); see storage\.uri, and AWS_ENDPOINT_URL"
    with pytest.raises(RunFolderError, match=words) as raised, locked(LAYOUT):
        pass
    assert "\n" not in str(raised.value)


def test_an_error_of_the_work_itself_passes_and_lets_the_lease_go(world):
    with pytest.raises(OSError, match="of the work"), locked(LAYOUT):
        raise OSError("of the work")
    assert world.content == b""


def test_a_store_that_refuses_at_the_end_does_not_fail_the_run(world):
    with locked(LAYOUT):
        world.on_write = refuse
    assert is_locked(LAYOUT)
    world.now_s += LEASE_S + 1.0
    assert not is_locked(LAYOUT)
