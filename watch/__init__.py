"""A page that shows what each request does to the database."""
