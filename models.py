"""The tables."""

from sqlalchemy import BigInteger, CheckConstraint, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from database import Base


class User(Base):
    """Somebody with a name and an email address of their own."""

    __tablename__ = "user"

    # 64 bits, because on PostgreSQL each refused email uses up an id. SQLite numbers the rows by
    # itself only if the column is called INTEGER; its integers have 64 bits anyway.
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), index=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    is_active: Mapped[bool] = mapped_column(default=True)

    __table_args__ = (
        # SQLite ignores the length in String().
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
        CheckConstraint("length(email) <= 254", name="email_length"),
        # Ada@example.com and ada@example.com are the same address for nearly every mail server.
        CheckConstraint("email = lower(email)", name="email_lower"),
        # Without AUTOINCREMENT, SQLite gives the id of the last deleted row to the next one.
        {"sqlite_autoincrement": True},
    )
