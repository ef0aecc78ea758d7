"""What the service tells of itself: logs and the health of its loops."""
