"""Enqueue, run and watch durable background jobs: the client of rexecutor-server."""
