"""PostgreSQL: any number of equal processes over one database."""
