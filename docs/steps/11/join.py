from sqlalchemy import ForeignKey, and_, create_engine, or_, select
from sqlalchemy.orm import Mapped, Session, mapped_column, relationship

from database import Base
from models import User


class Post(Base):
    __tablename__ = "post"

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("user.id"))
    author: Mapped[User] = relationship()


engine = create_engine("sqlite://")
Base.metadata.create_all(engine)
with Session(engine) as db:
    ada = User(name="Ada", email="ada@example.com")
    bob = User(name="Bob", email="bob@example.com")
    db.add_all([bob, Post(title="Engines", author=ada), Post(title="Sessions", author=ada)])
    db.commit()

    either = or_(User.name == "Ada", User.name == "Bob")
    print(db.scalars(select(User.name).where(either).order_by(User.name.desc())).all())
    both = and_(User.is_active, User.name == "Ada")
    print(db.scalars(select(User.name).where(both)).all())

    written = select(User.name, Post.title).join(Post).order_by(Post.title)
    print(db.execute(written).all())
    print(db.scalars(select(User.name).join(Post).distinct()).all())
