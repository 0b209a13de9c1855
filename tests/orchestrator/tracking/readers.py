"""Our trackers with what they show read back, as ``check_tracker`` compares it."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path

from orchestrator.tracking.conformance import Point
from orchestrator.tracking.mlflow_pages import MlflowPages
from orchestrator.tracking.tensorboard_files import TensorBoardFiles
from orchestrator.tracking.wandb_files import WandbFiles, axis_of

BLOCK = 32768  # of the log in which wandb keeps a run, as LevelDB's


class ReadMlflow(MlflowPages):
    def points(self) -> list[Point]:
        found, client = [], self.mlflow.client
        for key in client.get_run(self.mlflow.run_id).data.metrics:
            found += [(key, p.step, p.value) for p in client.get_metric_history(self.mlflow.run_id, key)]
        return found


class ReadTensorBoard(TensorBoardFiles):
    def points(self) -> list[Point]:
        return tensorboard_points(self.folder)


class ReadWandb(WandbFiles):
    def points(self) -> list[Point]:
        return wandb_points(self.folder)


READABLE = {
    "mlflow": lambda place: ReadMlflow(place.uri),
    "tensorboard": lambda place: ReadTensorBoard(place.folder),
    "wandb": lambda place: ReadWandb(place.folder),
}


def tensorboard_events(folder: Path) -> list:
    """Return the events in a folder's files, read with tensorboardX's messages; raise if a checksum is wrong."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    found = []
    for path in sorted(folder.glob("*tfevents*")):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            record = content[12 : 12 + length]
            sums = struct.unpack("<I", content[8:12]), struct.unpack("<I", content[12 + length : 16 + length])
            assert sums == ((masked_crc32c(content[:8]),), (masked_crc32c(record),)), path
            found.append(Event.FromString(record))
            content = content[16 + length :]
    return found


def tensorboard_points(folder: Path) -> list[Point]:
    return [
        (value.tag, event.step, value.simple_value)
        for event in tensorboard_events(folder)
        for value in event.summary.value
        if value.WhichOneof("value") == "simple_value"
    ]


def wandb_records(folder: Path) -> Iterator:
    """Yield the records of the offline runs in a folder."""
    from wandb.proto.wandb_internal_pb2 import Record

    for path in sorted(folder.glob("offline-run-*/*.wandb")):
        content, at, parts = path.read_bytes(), 7, b""
        while at < len(content):
            if BLOCK - at % BLOCK < 7:
                at += BLOCK - at % BLOCK
                continue
            _, length, kind = struct.unpack("<IHB", content[at : at + 7])
            parts += content[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):  # whole, or the last part
                yield Record.FromString(parts)
                parts = b""


def wandb_points(folder: Path) -> list[Point]:
    found = []
    for record in wandb_records(folder):
        if record.WhichOneof("record_type") != "history":
            continue
        items = record.history.item
        row = {one.key or "/".join(one.nested_key): json.loads(one.value_json) for one in items}
        numbers = {key: value for key, value in row.items() if isinstance(value, int | float)}
        found += [
            (key, row[axis_of(key)], value)
            for key, value in numbers.items()
            if axis_of(key) in row and key != axis_of(key) and not key.startswith("_")
        ]
    return found
