"""What makes the four files hold: sessions in turn, limits, errors, tables, settings."""
