"""The records of TensorBoard's event files, as bytes: scalars, texts, images, hyperparameters.

The messages are those of tensorboardX. Its writer is not used: it swallows errors in a thread, and importing it loads
torch, three seconds and two hundred megabytes that a controller does without.
"""

import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Any


@contextmanager
def _bare(package: str) -> Iterator[None]:
    """Import modules of a package, within this block, without running its ``__init__``."""
    if package in sys.modules:
        yield
        return
    found = find_spec(package)
    bare = ModuleType(package)
    bare.__path__ = [] if found is None else list(found.submodule_search_locations or [])
    sys.modules[package] = bare
    try:
        yield
    finally:
        del sys.modules[package]


with _bare("tensorboardX"):
    from tensorboardX.crc32c import crc32c
    from tensorboardX.proto.event_pb2 import Event, SessionLog
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
    from tensorboardX.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboardX.proto.tensor_pb2 import TensorProto
    from tensorboardX.proto.tensor_shape_pb2 import TensorShapeProto

SUCCESS, FAILURE = 1, 2  # of ``tensorboardX.proto.api_pb2.Status``
RGBA = 4


def start(time_s: float) -> bytes:
    """Return the records that begin a file, after which steps count again from the first on."""
    log = SessionLog(status=SessionLog.START)
    return _record(Event(wall_time=time_s, file_version="brain.Event:2")) + _record(
        Event(wall_time=time_s, session_log=log)
    )


def scalars(values: Mapping[str, float], step: int, time_s: float) -> bytes:
    """Return the record of values at one step, by their tags."""
    return _summary(
        [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()], step, time_s
    )


def text(tag: str, markdown: str, time_s: float) -> bytes:
    """Return the record of a text."""
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[markdown.encode()], tensor_shape=shape)
    return _summary([Summary.Value(tag=tag, metadata=_metadata("text", b""), tensor=tensor)], 0, time_s)


def image(tag: str, png: bytes, step: int, time_s: float) -> bytes:
    """Return the record of a PNG file."""
    width, height = struct.unpack(">II", png[16:24])
    content = Summary.Image(height=height, width=width, colorspace=RGBA, encoded_image_string=png)
    return _summary([Summary.Value(tag=tag, image=content)], step, time_s)


def hyperparameters(params: Mapping[str, Any], time_s: float) -> bytes:
    """Return the record of the settings of a run."""
    info = SessionStartInfo(start_time_secs=time_s)
    for key, value in params.items():
        if isinstance(value, bool):
            info.hparams[key].bool_value = value
        elif isinstance(value, int | float):
            info.hparams[key].number_value = value
        else:
            info.hparams[key].string_value = str(value)
    return _hparams("session_start_info", info, time_s)


def finish(time_s: float, *, is_good: bool) -> bytes:
    """Return the record of how a run ended."""
    info = SessionEndInfo(status=SUCCESS if is_good else FAILURE, end_time_secs=time_s)
    return _hparams("session_end_info", info, time_s)


def _hparams(part: str, info: Any, time_s: float) -> bytes:
    content = HParamsPluginData(version=0, **{part: info}).SerializeToString()
    return _summary(
        [Summary.Value(tag=f"_hparams_/{part}", metadata=_metadata("hparams", content))], 0, time_s
    )


def _metadata(plugin: str, content: bytes) -> Any:
    return SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=plugin, content=content))


def _summary(values: list[Any], step: int, time_s: float) -> bytes:
    return _record(Event(wall_time=time_s, step=step, summary=Summary(value=values)))


def _record(event: Any) -> bytes:
    """Return an event with its length before it, and a checksum after each of the two."""
    content: bytes = event.SerializeToString(deterministic=True)
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def _checksum(content: bytes) -> bytes:
    """Return a CRC-32C, rotated and shifted so that it can itself be within what is checked."""
    crc = int(crc32c(content))
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
