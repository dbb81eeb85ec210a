"""The app with less patience, so that tests need not wait: `uvicorn tests.live.hurried:app`."""

from core import sessions
from main import app

sessions.MAX_WAIT = 3.0

__all__ = ["app"]
