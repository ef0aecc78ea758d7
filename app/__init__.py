"""rexecutor as a service: durable jobs over HTTP and WebSocket."""
