"""Loops that act through the contract's extensions."""
