from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

engine = create_engine(
    "sqlite:///./app.db", pool_size=2, max_overflow=0, pool_timeout=1
)
sessions = []
for number in (1, 2, 3):
    db = Session(engine)
    db.execute(text("SELECT 1"))
    print("session", number, "has a connection")
    db.close()
