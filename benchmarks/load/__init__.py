"""The load: producers and workers, each in a process of its own, made of what the registry has."""
