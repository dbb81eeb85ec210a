from fastapi import APIRouter
from sqlalchemy import func, select

from database import SessionDep
from models import User

router = APIRouter(prefix="/stats")


@router.get("/users")
def count_users(db: SessionDep):
    return {"users": db.scalar(select(func.count()).select_from(User))}
