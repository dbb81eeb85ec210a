"""The tables."""

from sqlalchemy import BigInteger, CheckConstraint, Integer, String
from sqlalchemy.orm import Mapped, mapped_column

from database import Base


class User(Base):
    """Somebody with a name and an email address of their own."""

    __tablename__ = "user"

    # 64 bits, for each refused email costs PostgreSQL an id; SQLite counts up by itself only
    # in a column that it knows as INTEGER, where 64 bits are the rule.
    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), index=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    is_active: Mapped[bool] = mapped_column(default=True)

    __table_args__ = (
        # SQLite takes the length in String() for a comment.
        CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
        CheckConstraint("length(email) <= 254", name="email_length"),
        # Ada@example.com and ada@example.com are one address to everybody but the RFC.
        CheckConstraint("email = lower(email)", name="email_lower"),
        # Without AUTOINCREMENT, SQLite gives the id of the last deleted row to the next one.
        {"sqlite_autoincrement": True},
    )
