"""What makes the files above work under load: sessions in turn, limits, errors, tables."""
