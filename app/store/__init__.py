"""SQL: the tables, and the statements of every operation, by database."""
