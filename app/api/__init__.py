"""The wire: HTTP and WebSocket. It reaches the service only through the contract."""
