"""Who may come in: `uvicorn examples.login:app`. Reading is free, changing users takes a token.

`POST /token`, or "Authorize" in /docs, gives one to whoever knows a password. SECRET_KEY signs it.
An admin may change everybody and give them passwords; this makes the first one of a user:

    python -m examples.manage make-admin ada@example.com

Let the proxy limit /token: who knows an email can make its owner wait, and checking takes time.
"""

import sys
import time
from typing import Annotated, Any

import jwt
from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.routing import APIRoute
from fastapi.security import OAuth2PasswordBearer
from pwdlib import PasswordHash
from sqlalchemy import ForeignKey, delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

import database
import main
from core.errors import Detail
from core.settings import Settings, load
from core.startup import create_app
from database import Base, SessionDep
from models import User
from schemas import Email, UserId


class LoginSettings(Settings):
    """What can be set, and what signs the tokens."""

    secret_key: str = ""


settings = load(LoginSettings)
if len(settings.secret_key) < 32:
    sys.exit("SECRET_KEY: set it to 32 characters or more that nobody can guess")
HASHER = PasswordHash.recommended()
NOBODY = HASHER.hash("")  # to compare with if a user is unknown: it takes as long as if not


class Login(Base):
    """The password of a user. With each new one the version goes up, and older tokens end."""

    __tablename__ = "login"
    user_id: Mapped[int] = mapped_column(ForeignKey(User.id, ondelete="CASCADE"), primary_key=True)
    password_hash: Mapped[str]
    version: Mapped[int] = mapped_column(default=1)
    is_admin: Mapped[bool] = mapped_column(default=False)


class Tries(Base):
    """How often in a row somebody failed to log in with an email, whether it is known or not."""

    __tablename__ = "login_tries"
    email: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(default=1)
    last: Mapped[int]  # seconds since 1970


def may_change(
    request: Request,
    db: SessionDep,
    token: Annotated[str | None, Depends(OAuth2PasswordBearer("token", auto_error=False))],
) -> None:
    """Let those pass who change themselves or are admins; else raise 401 or 403."""
    try:
        claims = jwt.decode(token or "", settings.secret_key, ["HS256"])
    except jwt.InvalidTokenError:
        claims = {"sub": "0", "version": 0}
    # To write the version, unchanged, locks it until this session has made the change: no new
    # password can end the token in between.
    same = (Login.user_id == int(claims["sub"])) & (Login.version == claims["version"])
    active = Login.user_id.in_(select(User.id).where(User.is_active))
    lock = update(Login).where(same, active).values(version=Login.version)
    login = db.execute(lock.returning(Login.user_id, Login.is_admin)).first()
    if login is None:
        raise HTTPException(401, "Log in first", {"WWW-Authenticate": "Bearer"})
    changed = request.path_params.get("user_id")
    if request.method == "DELETE" and request.url.path == "/user":
        changed = request.query_params.get("user_id")
    if changed != str(login.user_id) and not login.is_admin:
        raise HTTPException(403, "Only an admin may change others")


def set_password(db: Session, user_id: int, password: str, **more: Any) -> None:
    """Give a user a password, the first one or another."""
    values = {"password_hash": HASHER.hash(password), **more}
    change = update(Login).where(Login.user_id == user_id).returning(Login.version)
    if db.execute(change.values(version=Login.version + 1, **values)).first() is None:
        db.add(Login(user_id=user_id, **values))
    db.commit()


app = create_app(database, title="User API with logins")


@app.post("/token")
def log_in(
    username: Annotated[Email, Form()],
    password: Annotated[str, Form(min_length=1, max_length=1000)],
    db: SessionDep,
) -> dict[str, str]:
    """Return a token for 30 minutes. After five wrong passwords, allow one try a minute."""
    now = int(time.time())
    # Counted before it is looked at, so that many at once get no more than five, either.
    insert = sqlite.insert if db.get_bind().dialect.name == "sqlite" else postgresql.insert
    first = insert(Tries).values(email=username, last=now)
    one_more = {"number": Tries.number + 1, "last": now}
    allowed = or_(Tries.number < 5, Tries.last <= now - 60)
    count = first.on_conflict_do_update(index_elements=["email"], set_=one_more, where=allowed)
    counted = db.execute(count.returning(Tries.number)).first()
    db.commit()
    if counted is None:
        raise HTTPException(429, "Too many wrong passwords, try again later", {"Retry-After": "60"})
    login = db.scalar(select(Login).join(User).where(User.email == username, User.is_active))
    if not HASHER.verify(password, login.password_hash if login else NOBODY) or login is None:
        raise HTTPException(401, "Wrong email or password", {"WWW-Authenticate": "Bearer"})
    claims = {"sub": str(login.user_id), "version": login.version, "exp": now + 30 * 60}
    db.execute(delete(Tries).where(or_(Tries.email == username, Tries.last < now - 24 * 60 * 60)))
    db.commit()
    return {"access_token": jwt.encode(claims, settings.secret_key), "token_type": "bearer"}


@app.put("/users/{user_id}/password", dependencies=[Depends(may_change)])
def change_password(
    user_id: UserId, password: Annotated[str, Form(min_length=12, max_length=1000)], db: SessionDep
) -> Detail:
    """Set a password; the tokens that a user has end with the one before."""
    if db.get(User, user_id) is None:
        raise HTTPException(404, "User not found")
    set_password(db, user_id, password)
    return Detail(detail="Password set")


# The calls of the app; those that change something are behind the door.
reading, changing = APIRouter(), APIRouter()
for route in (*main.lessons.routes, *main.users.routes, *main.app.routes):
    if isinstance(route, APIRoute):
        (reading if route.methods == {"GET"} else changing).routes.append(route)
app.include_router(reading)
app.include_router(changing, dependencies=[Depends(may_change)])
