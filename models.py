"""The tables."""

from sqlalchemy import BigInteger, CheckConstraint, Index, Integer, String, text
from sqlalchemy.orm import Mapped, mapped_column

from core.tables import index_for_searches
from database import Base


class User(Base):
    """Somebody with a name and an email address of their own."""

    __tablename__ = "user"

    # 64 bits, because on PostgreSQL each refused email uses up an id. SQLite numbers the rows by
    # itself only if the column is called INTEGER; its integers have 64 bits anyway.
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    email: Mapped[str] = mapped_column(String(254), unique=True)
    is_active: Mapped[bool] = mapped_column(default=True)

    __table_args__ = (
        # SQLite ignores the length in String().
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
        CheckConstraint("length(email) <= 254", name="email_length"),
        # Ada@example.com and ada@example.com are the same address for nearly every mail server.
        CheckConstraint("email = lower(email)", name="email_lower"),
        # SQLite stores anything in any column, from other programs.
        CheckConstraint("is_active IN (true, false)", name="is_active"),
        # For GET /users by name, and for GET /users?is_active=... in each order. A column in an
        # index need not be read from the table, so is_active is there as well: to count is faster.
        Index(None, "name", "id"),
        *(
            Index(
                f"ix_user_{part}_{columns[0]}",
                *columns,
                "is_active",
                postgresql_where=text(f"is_active = {part == 'active'}"),
                sqlite_where=text(f"is_active = {int(part == 'active')}"),
            )
            for part, *columns in (
                ("active", "id"),  # most users: in another order, they are found without an index
                ("inactive", "id"),
                ("inactive", "name", "id"),
                ("inactive", "email"),
            )
        ),
        # Without AUTOINCREMENT, SQLite gives the id of the last deleted row to the next one.
        {"sqlite_autoincrement": True},
    )


# GET /users?query=... looks for a text anywhere in them. SQLite has no index for that.
index_for_searches(Base.metadata.tables["user"], "email", "upper(name)")
