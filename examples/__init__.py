"""Single files to run, which build on the app."""

from sqlalchemy.orm import DeclarativeBase

import database


class ExampleBase(DeclarativeBase):
    """What tables of examples derive from, so that your models.py may have a Post of its own."""

    metadata = database.Base.metadata  # they are created with the others, and refer to `user`
