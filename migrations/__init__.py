"""What Alembic runs, and what its files say."""
