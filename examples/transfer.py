"""Money from one account to another, all or nothing: `uvicorn examples.transfer:app`.

Amounts are whole cents. Two rules keep the sum right whoever transfers at the same time: the
database refuses a balance below zero, and every transfer locks its accounts in the same order.
"""

from typing import Annotated, Self

from fastapi import HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import BigInteger, CheckConstraint, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Mapped, mapped_column

import database
from core.errors import Detail
from core.sessions import read_only
from core.startup import create_app
from database import SessionDep
from examples import ExampleBase

Cents = Annotated[int, Field(strict=True, gt=0, le=10**12, examples=[500])]
AccountId = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1, examples=[1])]


class Account(ExampleBase):
    """Somebody's money, in cents."""

    __tablename__ = "example_account"
    __table_args__ = (CheckConstraint("balance >= 0", name="balance"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[int] = mapped_column(BigInteger)


class AccountBody(BaseModel):
    """A new account."""

    balance: Annotated[int, Field(strict=True, ge=0, le=10**12, examples=[1000])]


class AccountRead(AccountBody):
    """An account."""

    model_config = ConfigDict(from_attributes=True)

    id: int


class TransferBody(BaseModel):
    """How much goes from where to where."""

    source: AccountId
    target: AccountId
    amount: Cents

    @model_validator(mode="after")
    def check_accounts(self) -> Self:
        """Refuse to move money from an account to itself."""
        if self.source == self.target:
            raise ValueError("source and target are the same account")
        return self


app = create_app(database, title="Accounts")


@app.exception_handler(IntegrityError)
async def balance_below_zero(request: Request, error: IntegrityError) -> Response:
    """Answer 409 if the database refused a balance below zero."""
    if "ck_example_account_balance" not in str(error.orig).splitlines()[0]:
        raise error
    return JSONResponse({"detail": "Not enough funds"}, 409)


@app.post("/accounts", response_model=AccountRead, status_code=201)
def create_account(body: AccountBody, db: SessionDep) -> AccountRead:
    """Open an account."""
    account = Account(balance=body.balance)
    db.add(account)
    db.flush()
    created = AccountRead.model_validate(account)
    db.commit()
    return created


@app.get("/accounts", response_model=list[AccountRead])
@read_only
def list_accounts(db: SessionDep) -> object:
    """Return all accounts, as they are at one moment."""
    return db.scalars(select(Account).order_by(Account.id)).all()


@app.post(
    "/transfer",
    response_model=Detail,
    responses={
        404: {"model": Detail, "description": "Unknown account"},
        409: {"model": Detail, "description": "Not enough funds"},
    },
)
def transfer(body: TransferBody, db: SessionDep) -> Detail:
    """Move an amount from one account to another."""
    changes = {body.source: -body.amount, body.target: body.amount}
    # The smaller id first: two transfers never wait for each other in a circle.
    for account_id in sorted(changes):
        statement = (
            update(Account)
            .where(Account.id == account_id)
            .values(balance=Account.balance + changes[account_id])
            .returning(Account.id)
        )
        if db.scalar(statement) is None:
            # The session closes without a commit, and whatever has changed is undone.
            raise HTTPException(404, f"Account {account_id} not found")
    db.commit()
    return Detail(detail="Transferred")
