"""How an endpoint of a course runs: it and the check of what it answers in one thread, not two."""

from collections.abc import Callable
from functools import wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isfunction, isgeneratorfunction, unwrap
from typing import Any

from anyio.to_thread import run_sync
from fastapi import Response
from fastapi.routing import APIRoute


class Route(APIRoute):
    """A call whose answer is made into its `response_model` where its endpoint has run.

    FastAPI asks a second thread for it, and waits for both: a fifth of the time of a list. It has
    to be a thread: what the model asks an object for may only then be read from the database.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        def run(values: dict[str, Any]) -> Any:
            answer = endpoint(**values)
            if self.response_field is None or isinstance(answer, Response):
                return answer
            made, mistakes = self.response_field.validate(answer, {}, loc=("response",))
            return answer if mistakes else made  # FastAPI finds and reports the mistakes itself

        @wraps(endpoint)
        async def run_in_thread(**values: Any) -> Any:
            return await run_sync(run, values)

        vars(run_in_thread)["is_sync"] = True  # for core/sessions.py
        super().__init__(
            path, run_in_thread if is_plain_function(endpoint) else endpoint, **options
        )


def is_plain_function(endpoint: Callable[..., Any]) -> bool:
    """Tell whether an endpoint is a function that FastAPI would run in a thread, and returns."""
    others = iscoroutinefunction, isgeneratorfunction, isasyncgenfunction
    return isfunction(endpoint) and not any(
        is_other(each) for is_other in others for each in (endpoint, unwrap(endpoint))
    )
