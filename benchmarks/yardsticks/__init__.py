"""What the figures are compared with: the same work without the service, each in a process of its own."""
