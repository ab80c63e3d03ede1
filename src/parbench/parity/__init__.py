"""Whether our methods choose what the authors' published code chooses, case by recorded case."""
