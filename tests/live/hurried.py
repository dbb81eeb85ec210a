"""The app with less patience, so that tests need not wait: `uvicorn tests.live.hurried:app`."""

from core import engines, sessions

sessions.MAX_WAIT = 3.0
engines.RECYCLE = 2  # before the app makes its engines

from main import app  # noqa: E402

__all__ = ["app"]
