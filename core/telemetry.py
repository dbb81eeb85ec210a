"""What only this service can tell OpenTelemetry: who has a session, who waits, and why it failed.

Where no SDK is installed or set up, nothing is recorded. Names, as far as there are any:
https://opentelemetry.io/docs/specs/semconv/database/database-metrics/
"""

import sys
from collections.abc import Callable, Iterable
from typing import Any

from opentelemetry.metrics import CallbackOptions, Observation, get_meter

from core.sessions import Queue, listeners, queues


def observe(count: Callable[[Queue], int | None], **more: str) -> list[Any]:
    """Return what an instrument asks, each time when it is read, about every queue."""

    def callback(options: CallbackOptions) -> Iterable[Observation]:
        for queue in list(queues):
            if (number := count(queue)) is not None:
                yield Observation(number, {POOL: queue.name} | more)

    return [callback]


POOL = "db.client.connection.pool.name"
meter = get_meter("core")
meter.create_observable_up_down_counter(
    "db.client.connection.count",
    observe(lambda queue: queue.used, **{"db.client.connection.state": "used"}),
    unit="{connection}",
    description="Requests that have a session",
)
meter.create_observable_up_down_counter(
    "db.client.connection.max",
    observe(lambda queue: queue.limit if queue.limit < sys.maxsize else None),
    unit="{connection}",
    description="How many may have one at once",
)
meter.create_observable_up_down_counter(
    "db.client.connection.pending_requests",
    observe(lambda queue: queue.waiting),
    unit="{request}",
    description="Requests that wait for a session",
)
meter.create_observable_counter(
    "db.client.connection.timeouts",
    observe(lambda queue: queue.timeouts),
    unit="{timeout}",
    description="Requests that have waited in vain",
)
wait_time = meter.create_histogram(
    "db.client.connection.wait_time",
    unit="s",
    description="How long those waited that had to",
    explicit_bucket_boundaries_advisory=[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10],
)
listeners.append(lambda queue, seconds: wait_time.record(seconds, {POOL: queue.name}))
unavailable = meter.create_counter(
    "database.unavailable",
    unit="{response}",
    description="Answers 503, by what the database or the queue said",
)


def count_unavailable(error: BaseException) -> None:
    """Count an answer 503, with the kind of error that the database or the queue gave."""
    kind = getattr(error, "sqlite_errorname", type(error).__name__)
    unavailable.add(1, {"error.type": kind})
