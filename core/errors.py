"""Every error that SupSup raises on purpose.

SupSupError                    exit code 1
├── InputError                 exit code 2: said before anything starts
│   ├── ConfigError            the sweep file or a key=value
│   ├── DataError              a data set that is missing or damaged
│   ├── InferenceError         an image, or a number of tasks, that inference cannot use
│   └── RunFolderError         a run folder that cannot be used
│       ├── DamagedFileError   bytes that do not verify
│       └── ForeignFileError   a file of another run or network
├── RunLockedError             exit code 3: another controller holds the run
├── TrainingError              a task's own, repeatable failure: never retried
└── WorkerError                the infrastructure's: another worker may do better
    ├── LostWorkerError        a worker died, or cannot be reached
    └── ForeignWorkerError     a worker's base network is not the run's

Each carries one message for people (what was found, where, what was expected, what
to do) as its only argument, so that it survives pickling between processes.
"""


class SupSupError(Exception):
    """Root of the tree; ``exit_code`` is what the command line ends with."""

    exit_code = 1


class InputError(SupSupError):
    """What the user gave is wrong; nothing was started or written."""

    exit_code = 2


class ConfigError(InputError, ValueError):
    """A key of the sweep file or of the command line is unknown, missing or out of range."""


class DataError(InputError):
    """A data set is missing, cannot be fetched, or is not what its publisher released."""


class InferenceError(InputError):
    """An image that no network here can see, or a k that the mask bank does not have."""


class RunFolderError(InputError):
    """A run folder is missing, of an unknown format, or holds what it should not."""


class DamagedFileError(RunFolderError):
    """A file cannot be read, or its content does not match its checksum or digest."""


class ForeignFileError(RunFolderError):
    """A file belongs to another run (fingerprint) or to another base network (digest)."""


class RunLockedError(SupSupError):
    """Another controller is working on the run folder."""

    exit_code = 3


class TrainingError(SupSupError):
    """Training a task failed in a way that would repeat, such as a loss that is not finite."""


class WorkerError(SupSupError):
    """A worker failed at a job that another one may do."""


class LostWorkerError(WorkerError):
    """A worker died or became unreachable during a job."""


class ForeignWorkerError(WorkerError):
    """A worker's base network is not that of the run: other versions, or memory that was overwritten."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; its class where the message is empty."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
