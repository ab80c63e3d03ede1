"""What stands for parbench's own code in the identity of a run."""

# Raised by one whenever an answer, a score, a count of tokens or of FLOPs changes for the same settings.
# tests/test_golden_answers.py
# says when: it recomputes recorded answers and fails where they differ. An edit that changes no number leaves it alone, and all
# runs keep their ids.
NUMERICS = 1
