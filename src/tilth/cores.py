"""How many processor cores there are to work on."""


def usable_cores() -> int:
    """Return the cores that this process may use: not those that its affinity or its container withhold."""
    from joblib import cpu_count  # a tenth of a second, which no search needs

    return int(cpu_count())
