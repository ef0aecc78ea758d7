"""When ready jobs are handed out, and to whom."""
