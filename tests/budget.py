"""Run a command, and say how many times a fixed piece of work its processor time is.

`python -m tests.budget 80 pytest -n auto` fails if it is more than 80 times. What a slow machine
or a busy one does to the one, it does to the other. CONTRIBUTING.md says how many it may be.
"""

import resource
import subprocess
import sys

WORK = [sys.executable, "-c", "for _ in range(100_000_000): pass"]


def processor_time(command: list[str]) -> float:
    """Return the seconds that a command takes, with all that it starts and waits for.

    Raises CalledProcessError if it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main(most: int, command: list[str]) -> None:
    """Print how many times it is; exit with a failure if it is too many."""
    seconds = processor_time(command)
    work = processor_time(WORK)
    said = f"{seconds:.0f} s of processor time, {seconds / work:.0f} times a loop of {work:.1f} s"
    print(f"{said}; at most {most} times")
    if seconds > most * work:
        sys.exit("The quick tests have become too slow: look at pytest -n auto --durations=20")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
