from parbench.api.costs import flops as flops
from parbench.api.methods import method as method
from parbench.api.models import load_model as load_model
from parbench.api.reducing import reduce as reduce
from parbench.api.results import compare as compare
from parbench.api.results import evaluate as evaluate
from parbench.api.results import load_results as load_results
from parbench.errors import ParbenchError as ParbenchError

__version__: str
__all__ = ["ParbenchError", "compare", "evaluate", "flops", "load_model", "load_results", "method", "reduce"]
