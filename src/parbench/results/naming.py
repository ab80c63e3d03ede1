"""What runs are called."""


def cell_name(method: str, budget: float | None) -> str:
    """What a method at a budget is called."""
    return method if budget is None else f"{method} @{budget:g}"
