"""How fast the service is, each figure beside a yardstick of the same run: ``python -m benchmarks``."""
