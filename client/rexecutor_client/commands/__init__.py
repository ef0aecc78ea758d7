"""The commands of `rexecutor` that speak to a service."""
