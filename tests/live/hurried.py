"""The app with less patience, so that tests need not wait: `uvicorn tests.live.hurried:app`."""

from core import engines, sessions
from main import app

sessions.MAX_WAIT = 3.0
engines.RECYCLE = 2

__all__ = ["app"]
