"""CIFAR-100's archive: damage that leaves its records readable is found by its checksum."""

import gzip
import io
import tarfile

import pytest

from core.data.cifar import ARCHIVE, RECORD_BYTES, load_cifar100
from core.errors import DataError


def packed() -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name in ("train.bin", "test.bin"):
            info = tarfile.TarInfo(name)
            info.size = RECORD_BYTES
            archive.addfile(info, io.BytesIO(bytes(RECORD_BYTES)))
    return gzip.compress(target.getvalue(), compresslevel=0)  # stored, so that one byte changes one pixel


def test_a_changed_pixel_is_found_by_the_checksum_of_the_archive(tmp_path):
    content = bytearray(packed())
    (tmp_path / ARCHIVE).write_bytes(content)
    assert load_cifar100(tmp_path)[0][0].shape == (1, 3, 32, 32)
    content[1500] ^= 1
    (tmp_path / ARCHIVE).write_bytes(content)
    with pytest.raises(DataError, match="CRC check failed"):
        load_cifar100(tmp_path)
