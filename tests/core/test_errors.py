"""Words of messages."""

import pytest

from core.errors import plural


@pytest.mark.parametrize(
    ("num", "noun", "words"),
    [
        (0, "task", "0 tasks"),
        (1, "task", "1 task"),
        (2, "task", "2 tasks"),
        (2500, "mask", "2,500 masks"),
        (1, "batch", "1 batch"),
        (3, "batch", "3 batches"),
    ],
)
def test_a_number_and_its_noun_agree(num, noun, words):
    assert plural(num, noun) == words
