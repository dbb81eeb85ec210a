"""The tables, and what lists of them can be asked for."""

from sqlalchemy import CheckConstraint, String
from sqlalchemy.orm import Mapped, mapped_column

from core.columns import Id
from core.letters import HasNoCapitals
from core.lists import listed
from database import Base


class User(Base):
    """Somebody with a name and an email address of their own."""

    __tablename__ = "user"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(100))
    email: Mapped[str] = mapped_column(
        String(254), unique=True, info={"taken": "Email already registered"}
    )
    is_active: Mapped[bool] = mapped_column(default=True)

    __table_args__ = (
        # SQLite ignores the length in String().
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
        CheckConstraint("length(email) <= 254", name="email_length"),
        # Ada@example.com and ada@example.com are the same address for nearly every mail server.
        CheckConstraint(HasNoCapitals("email"), name="email_lower"),
        # SQLite stores anything in any column, from other programs.
        CheckConstraint("is_active IN (true, false)", name="is_active"),
    )


# GET /users: by id, or as these say. Each order, filter and search gets its indexes.
listed(User, order_by=["name", "email"], filter_by=["is_active"], search=["name", "email"])
