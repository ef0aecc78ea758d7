"""The contract, and its implementation over a store."""
