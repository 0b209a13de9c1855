"""Information on stored masks, without their bits: for tables, figures and trackers."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MaskInfo:
    """One stored mask. Fractions in [0, 1], loss in nats, Unix times in seconds.

    num_bytes: size of the mask as stored, compressed. encoding: bits or gaps. num_norm_bytes: size of
    its running statistics. file: the file's name. worker: host and process that trained the mask.
    started_s, finished_s: start and end of the training of its whole cohort.
    """

    task: int
    digest: str
    density: float
    test_accuracy: float
    train_loss: float
    train_seconds: float
    num_bytes: int
    encoding: str
    num_norm_bytes: int
    file: str
    worker: str
    started_s: float
    finished_s: float
