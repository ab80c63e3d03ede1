"""Finished runs in the forms of others: the Every Eval Ever schema, and the ``model-index`` of a model card."""

from parbench.export.every_eval_ever import write_every_eval_ever
from parbench.export.model_index import write_model_index

__all__ = ["write_every_eval_ever", "write_model_index"]
