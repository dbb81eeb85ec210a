"""What stands around the whole app: limits of bodies, HEAD, and errors that nobody has foreseen."""

import asyncio

from fastapi import HTTPException, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from core.errors import server_error

MAX_BODY = 1024 * 1024  # bytes


class LimitBody:
    """ASGI middleware that refuses long bodies; FastAPI's `max_body_size` does so in plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; what reads more than MAX_BODY of its body gets the 413."""
        size = 0

        async def receive_limited() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                raise HTTPException(413, "Body larger than 1 MiB")
            return message

        await self.app(scope, receive_limited, send)


class AnswerHead:
    """ASGI middleware that answers HEAD as GET, without the body.

    uvicorn leaves it out as well, but not every server, and not what stands for one in a cloud.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        enough = asyncio.Event()
        came = 0

        async def send_head(message: Message) -> None:
            await send({**message, "body": b""} if "body" in message else message)
            if message.get("more_body"):
                enough.set()

        async def receive_or_go() -> Message:
            """Whoever has the headers of a download wants no more: as if the client had gone."""
            nonlocal came
            came += 1
            if came == 1:
                return await receive()
            await enough.wait()
            return {"type": "http.disconnect"}

        await self.app({**scope, "method": "GET"}, receive_or_go, send_head)


class AnswerErrors:
    """ASGI middleware that answers 500; Starlette's is too far outside for the headers of CORS."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and its error, so that the server logs it."""
        started = False

        async def send_on(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, receive, send_on)
        except Exception as error:
            if scope["type"] == "http" and not started:
                response = await server_error(Request(scope), error)
                await response(scope, receive, send_on)
            raise
