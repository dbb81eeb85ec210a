"""The app with a second table, as docs/build-on-it.md teaches one, for benchmarks/growth.py."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated

from fastapi import Depends, Request, Response
from pydantic import BaseModel
from sqlalchemy import Enum, ForeignKey, Numeric, String
from sqlalchemy.orm import Mapped, mapped_column

from core.columns import Id
from core.lists import listed
from core.queries import ListQuery
from core.responses import page_response
from core.rows import Rows
from core.sessions import searches
from database import Base, SessionDep
from main import app as app


class Category(StrEnum):
    """What a product is."""

    BOOK = "book"
    GAME = "game"


class Product(Base):
    """Something that is sold."""

    __tablename__ = "benchmark_product"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(String(100))
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    category: Mapped[Category] = mapped_column(Enum(Category, native_enum=False))
    in_stock: Mapped[bool]
    owner_id: Mapped[int] = mapped_column(ForeignKey("user.id"))


listed(
    Product,
    order_by=["name", "price"],
    filter_by=["category", "in_stock"],
    search=["name"],
)


class ProductRead(BaseModel):
    """A product as a client reads one."""

    id: int
    name: str
    price: Decimal
    category: Category
    in_stock: bool
    owner_id: int


products = Rows(Product, ProductRead)


@app.get("/products", response_model=list[ProductRead])
@searches("query")
def list_products(
    request: Request, asked: Annotated[ListQuery, Depends(products.query)], db: SessionDep
) -> Response:
    """List products page by page."""
    return page_response(request, asked, products.page(db, asked))
