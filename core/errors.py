"""Every error that SupSup raises on purpose.

SupSupError                    exit code 1
├── InputError                 exit code 2: reported before anything starts
│   ├── ConfigError            the sweep file or a key=value
│   ├── DataError              a data set that is missing or damaged
│   ├── InferenceError         an image, or a number of tasks, that inference cannot use
│   ├── StoreError             an object store that refuses or does not answer
│   └── RunFolderError         a run folder that cannot be used
│       ├── DamagedFileError   bytes that do not verify
│       │   └── StaleFileError  made from other masks than those in the run folder
│       └── ForeignFileError   a file of another run or network
├── RunLockedError             exit code 3: another controller holds the run
├── TrainingError              a failure of the task itself, which would repeat: never retried
└── WorkerError                a failure of the infrastructure: another worker may succeed
    ├── LostWorkerError        a worker died, or cannot be reached
    ├── DeviceMemoryError      not even one task fits into the memory that is free
    └── ForeignWorkerError     a worker's base network differs from the run's

Each takes one message for people (what was found, where, what was expected, what to do)
as its only argument, so that it survives pickling between processes.
"""


class SupSupError(Exception):
    """Root of the error tree; ``exit_code`` is the exit code of the command line."""

    exit_code = 1


class InputError(SupSupError):
    """The user's input is invalid; nothing was started or written."""

    exit_code = 2


class ConfigError(InputError, ValueError):
    """A key of the sweep file or of the command line is unknown, missing or out of range."""


class DataError(InputError):
    """A data set is missing, cannot be fetched, or is not what its publisher released."""


class InferenceError(InputError):
    """An image that the network cannot take, or a k beyond the mask bank."""


class StoreError(InputError, OSError):
    """An object store refuses, or does not answer in time. Also an OSError, so that a job is tried again."""


class RunFolderError(InputError):
    """A run folder is missing, has an unknown format, or contains something it should not."""


class DamagedFileError(RunFolderError):
    """A file cannot be read, or its content does not match its checksum or digest."""


class StaleFileError(DamagedFileError):
    """A derived file was made from other masks than those now in the run folder."""


class ForeignFileError(RunFolderError):
    """A file belongs to another run (fingerprint) or to another base network (digest)."""


class RunLockedError(SupSupError):
    """Another controller is working on the run folder."""

    exit_code = 3


class TrainingError(SupSupError):
    """Training a task failed in a way that would repeat, such as a loss that is not finite."""


class WorkerError(SupSupError):
    """A worker failed at a job that another worker may complete."""


class LostWorkerError(WorkerError):
    """A worker died or became unreachable during a job."""


class DeviceMemoryError(WorkerError):
    """Training one task alone takes more memory than is free."""


class ForeignWorkerError(WorkerError):
    """A worker's base network differs from the run's: other library versions, or overwritten memory."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its class name if the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def plural(num: int, noun: str) -> str:
    """Return a number with its noun, for messages: ``1 task``, ``2,500 tasks``, ``2 batches``."""
    ending = "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{num:,} {noun}" if num == 1 else f"{num:,} {noun}{ending}"
