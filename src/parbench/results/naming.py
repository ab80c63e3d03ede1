"""What runs and samples are called."""


def cell_name(method: str, budget: float | None) -> str:
    """What a method at a budget is called."""
    return method if budget is None else f"{method} @{budget:g}"


def sample_id(task: str, number: int) -> str:
    """Name of a question: its task, and its row in the whole data set."""
    return f"{task}-{number}"


def sample_number(name: str) -> int:
    """The row in the whole data set of the question with this name."""
    return int(name.rpartition("-")[2])
