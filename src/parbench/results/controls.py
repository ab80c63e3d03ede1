"""Which methods others are compared with."""

# At the same budget.
CONTROLS = ("random", "uniform", "pool", "downsample")
# Methods that are controls themselves: reducers/*.py say so, which only importing torch could tell.
KNOWN_CONTROLS = (*CONTROLS, "none", "random-in-llm", "first-n", "cls-topk", "cls-topk-mean")
