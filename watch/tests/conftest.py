"""The databases of the other tests."""

from tests.conftest import new_postgresql, postgresql, url

__all__ = ["new_postgresql", "postgresql", "url"]
