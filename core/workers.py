"""What `uvicorn --workers` leaves out up to 0.54: that a worker which cannot start is a failure.

Needless as soon as it ends with the exit code of such a worker, and its workers end with it:
https://github.com/Kludex/uvicorn/pull/3001. It looks at what multiprocessing and uvicorn keep to
themselves.
"""

import multiprocessing
import os
import signal
from contextlib import suppress

from uvicorn._subprocess import subprocess_started
from uvicorn.config import Config


def supervisor() -> int | None:
    """Return the process that runs this one as a worker of `uvicorn --workers`."""
    worker = multiprocessing.current_process()
    parent = multiprocessing.parent_process()
    if parent is None or vars(worker).get("_target") is not subprocess_started:
        return None
    config: Config = vars(worker)["_kwargs"]["config"]
    return None if config.should_reload else parent.pid


def end_supervisor() -> None:
    """Let `uvicorn --workers` fail with a worker that cannot start; by itself it ends with 0.

    It is ended by a signal that it does not handle, and its other workers see that. As process 1 of
    a container it would not notice.
    """
    if pid := supervisor():
        with suppress(OSError):  # another worker was faster
            os.kill(pid, signal.SIGABRT)


def end_with_supervisor() -> None:
    """Stop when the supervisor is gone: a worker left alone would keep its port for ever."""
    parent = multiprocessing.parent_process()
    if parent and supervisor():
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
