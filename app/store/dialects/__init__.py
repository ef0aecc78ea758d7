"""One package for each database, and the list of what differs between them."""
