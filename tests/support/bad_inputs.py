"""Command lines that a person can get wrong, and what each has to be told; the files that they name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_CLASS = '''
from dataclasses import dataclass
from parbench.reducers import Reduction, TokenReducer

@dataclass
class Mine(TokenReducer):
    """Keeps what it likes."""

    title = "Mine"
    power: int = 1

    def reduce(self, features, probes):
        raise NotImplementedError
'''
_FIELDS = "budget: 64\nplace: before_projector\npositions: compact\npower: 1\n"
# Methods from outside the package: their YAML, each with its own mistake.
_METHODS = {
    "elsewhere": "_target_: my_own_lab.methods.Mine\nname: elsewhere\n",
    "classless": f"name: classless\n{_FIELDS}",
    "misnamed": f"_target_: mine.Yours\nname: misnamed\n{_FIELDS}",
    "fielded": f"_target_: mine.Mine\nname: fielded\n{_FIELDS}strength: 3\n",
    "plain": f"_target_: mine.Mine\nname: plain\n{_FIELDS}",
    "nameless": f"_target_: mine.Mine\n{_FIELDS}",
    "unwritten": "_target_: mine.Mine\nname: [unwritten\n",
    "faulty": f"_target_: faulty.Mine\nname: faulty\n{_FIELDS}",
    "needy": f"_target_: needy.Mine\nname: needy\n{_FIELDS}",
}


@dataclass(frozen=True)
class BadInput:
    """A command line that is refused.

    Attributes:
        line: After ``parbench``, words separated by blanks.
        said: What its message says among other things.
        torch: Whether only a method's class or the sizes of a model can tell, so that torch has to be imported.
    """

    line: str
    said: str
    torch: bool = False

    @property
    def words(self) -> list[str]:
        """Its words."""
        return self.line.split(" ")


def prepare(folder: Path) -> dict[str, str]:
    """Write the files that the command lines name; gives environment variables to run them with."""
    (folder / "file").write_text("no folder")
    (folder / "empty").mkdir()
    damaged = folder / "damaged" / "0123456789abcdef"
    damaged.mkdir(parents=True)
    (damaged / "provenance.json").write_text("{")
    (damaged / "metrics.json").write_text("{}")
    methods = folder / "mine" / "method"
    methods.mkdir(parents=True)
    for name, text in _METHODS.items():
        (methods / f"{name}.yaml").write_text(text)
    (folder / "mine" / "mine.py").write_text(_CLASS)
    (folder / "mine" / "faulty.py").write_text("def broken(:\n")
    (folder / "mine" / "needy.py").write_text("import no_such_package_anywhere\n")
    return {"PARBENCH_SEARCHPATH": str(folder / "mine")}


_OVERRIDES = (
    BadInput("evil", "did you mean eval"),
    BadInput("--verson", "did you mean --version"),
    BadInput("eval shard=4/4", "write shard=i/n with i from 0 to n - 1"),
    BadInput("eval shard=one", "write shard=i/n"),
    BadInput("eval budget=abc", "use a whole number of tokens such as 64"),
    BadInput("eval budget=1.0", "one token or all"),
    BadInput("eval seed=-1", "use a whole number from 0"),
    BadInput("eval seed=abc", "use a whole number from 0"),
    BadInput("eval seed=[1]", "seed=[1] is not possible"),
    BadInput("eval limit=many", "limit=many is not a whole number of at least 1"),
    BadInput("eval limit=3 limit=4", "limit is given twice (limit=3 and limit=4)"),
    BadInput("eval limit=3 +limit=3", "limit is given twice"),
    BadInput("eval limits=3", "did you mean limit"),
    BadInput("eval limit 3", "write key=value"),
    BadInput("eval --limt=3", "unknown option '--limt'"),
    BadInput("eval method=[par", "cannot be parsed"),
    BadInput("eval method=fastw", "did you mean fastv"),
    BadInput("eval model=llava-tin", "did you mean llava-tiny"),
    BadInput("eval dataset=scenes_color", "did you mean scenes_colour"),
    BadInput("eval method=fastv method.layr=3", "did you mean layer"),
    BadInput("eval ~method", "lacks method"),
    BadInput("eval model=null", "unknown model 'null'"),
    BadInput("eval model.path=null", "model.path=None is not a folder"),
    BadInput("eval method={a:1}", "method takes a name: write method=NAME"),
    BadInput("eval method=par method.budget=abc", "method.budget=abc is not possible"),
    BadInput("eval =5", "'=5' has no key"),
    BadInput("eval ", "'' has no key"),
    BadInput("eval +model.geometry=5", "model.geometry=5 has no sizes"),
    BadInput("eval dataset.columns=5", "dataset.columns=5 is not a list"),
    BadInput("sweep variants=5", "variants=5 has no lists of overrides"),
    BadInput("eval hydra.searchpath=[file:///nowhere]", "names /nowhere, which is not a folder"),
    BadInput("eval hydra.searchpath=abc", "write hydra.searchpath=[file:///path/to/folder]"),
    BadInput("eval model.attention=5", "write model.attention=sdpa"),
    BadInput("eval model=qwen2-vl-7b model.min_pixels=0", "model.min_pixels=0 is not a number of pixels from 1 on"),
    BadInput("eval model=qwen2-vl-7b model.min_pixels=9 model.max_pixels=8", "model.min_pixels=9 is above model.max_pixels=8"),
    BadInput("eval model=qwen2-vl-7b model.min_pixels=9 model.total_pixels=8", "model.min_pixels=9 is above model.total_pixels=8"),
    BadInput("eval model.dtype=int8", "model.dtype=int8 is not supported"),
    BadInput("eval model.device=gpu0", "model.device=gpu0 is not a device"),
    BadInput("eval model.adaptor=x", "did you mean adapter"),
    BadInput("eval model.adapter=nowhere", "model.adapter=nowhere cannot be read (No such file or directory)", torch=True),
    BadInput("eval model.adapter=empty", "model.adapter=empty cannot be read (Is a directory): give the path", torch=True),
    BadInput("flops model.adapter=file", "model.adapter=file is damaged or no safetensors file: write it with", torch=True),
    BadInput("eval model.adapter=file model.device_map=auto", "leave out model.device_map=auto", torch=True),
    BadInput("bench model.adapter=file model.weights=random", "leave it out with model.weights=random", torch=True),
    BadInput("eval controls=random", "write controls=[random,uniform]"),
    BadInput("eval controls=[rndom]", "did you mean random"),
    BadInput("eval engine=fast", "known are exact, shared"),
    BadInput("eval engine.share=maybe", "engine.share=maybe is neither true nor false"),
    BadInput("eval engine.batch_size=0", "engine.batch_size=0 is not a whole number"),
    BadInput("eval tracking=wandb tracking.mode=onlin", "use auto, online, offline"),
    BadInput("eval launcher=slurm", "write parbench sweep"),
    BadInput("eval results_dir=null", "results_dir=None is not a folder"),
    BadInput("eval results_dir=file", "results_dir=file cannot be a folder: file is a file"),
    BadInput("sweep results_dir=file/runs", "results_dir=file/runs cannot be a folder: file is a file"),
)
_COMMANDS = (
    BadInput("sweep budgets=[abc]", "budgets=abc is not possible"),
    BadInput("sweep budgets=[64,-3]", "budgets=-3 is not possible"),
    BadInput("sweep methods=[par,fastw]", "did you mean fastv"),
    BadInput("sweep methods=[]", "write methods=[a,b]"),
    BadInput("sweep methods=[par", "cannot be parsed"),
    BadInput("sweep methods=[par] --methods=[fastv]", "methods is given twice"),
    BadInput("sweep method=par", "cannot be combined with sweep"),
    BadInput("sweep models=[llava-tin]", "did you mean llava-tiny"),
    BadInput("sweep shards=0", "shards=0 is not a whole number of at least 1"),
    BadInput("sweep shards=2 shard=0/2", "shard=0/2 cannot be combined with shards=2"),
    BadInput("sweep models=all model=llava-tiny", "model=llava-tiny cannot be combined with models=all"),
    BadInput("sweep launcher=lab", "unknown launcher 'lab'"),
    BadInput("bench budgets=[577] methods=[random]", "use 1 to 576 tokens", torch=True),
    BadInput("eval budget=577 method=random", "use 1 to 576 tokens", torch=True),
    BadInput("sweep budgets=[64,577] methods=[random]", "use 1 to 576 tokens", torch=True),
    BadInput("sweep budgets=[577] --dry-run", "use 1 to 576 tokens", torch=True),
    BadInput("calibrate target=577", "use 1 to 576 tokens", torch=True),
    BadInput("show budget=577", "use 1 to 576 tokens", torch=True),
    BadInput("flops tokens=577", "use 1 to 576", torch=True),
    BadInput("flops claim=par tokens=577", "use 1 to 576", torch=True),
    BadInput("bench batch=0", "batch=0 is not a whole number of at least 1"),
    BadInput("bench kernel=eager", "known are auto"),
    BadInput("bench out=bench.csv", "use a name that ends in .json"),
    BadInput("flops tokens=many", "tokens=many is not a whole number of at least 1"),
    BadInput("flops place=inside", "unknown place 'inside'"),
    BadInput("flops claim=parr", "did you mean par"),
    BadInput("show sample=-1", "sample=-1 is not a whole number of at least 0"),
    BadInput("show out=x.doc", "use a name that ends in .png"),
    BadInput("calibrate target=null", "target=null is not a budget"),
    BadInput("calibrate questions=0", "questions=0 is not a whole number of at least 1"),
    BadInput("calibrate method=random", "no threshold to calibrate", torch=True),
    BadInput("parity", "write parbench parity tests/golden"),
    BadInput("parity nowhere", "nowhere is not a folder"),
    BadInput("list method", "did you mean methods"),
    BadInput("config method=fastw", "did you mean fastv"),
    BadInput("completion tcsh", "unknown shell"),
    BadInput("doctor now", "doctor takes no arguments"),
)
_RESULTS = (
    BadInput("status", "the default folder results/runs does not exist"),
    BadInput("status nowhere", "nowhere is not a folder"),
    BadInput("status results_dir=nowhere", "results_dir=nowhere is not a folder"),
    BadInput("status file", "file is a file"),
    BadInput("merge nowhere", "nowhere is not a folder"),
    BadInput("merge file", "file is a file"),
    BadInput("table nowhere", "nowhere does not exist"),
    BadInput("table file", "file is a file"),
    BadInput("table empty", "no run in empty"),
    BadInput("table damaged", "is damaged"),
    BadInput("table --out=table.doc", "use a name that ends in .md, .tex, .csv, .parquet or .txt"),
    BadInput("table --format=csv --out=table.md", "name it table.csv"),
    BadInput("table --format=html", "unknown format 'html'"),
    BadInput("table --metric", "--metric needs a value"),
    BadInput("table metric=", "has no value"),
    BadInput("table views=skill", "did you mean skills"),
    BadInput("figures nowhere", "nowhere does not exist"),
    BadInput("figures only=skils", "did you mean skills"),
    BadInput("report out=report.pdf", "use a name that ends in .html"),
    BadInput("report images=many", "images=many is not a whole number of at least 0"),
)
_OUTSIDE = (
    BadInput(
        "eval method=elsewhere", "module my_own_lab.methods of method elsewhere is not found: put its folder on PYTHONPATH", True
    ),
    BadInput("eval method=classless", "the YAML of method classless names no class", True),
    BadInput("eval method=misnamed", "module mine of method misnamed has no class Yours", True),
    BadInput("eval method=fielded", "unknown field of method fielded 'strength'", True),
    BadInput("eval method=plain method.power=much", "method.power=much of plain is of the wrong kind: it takes int", True),
    BadInput("eval method=nameless", "add name: NAME to it"),
    BadInput("eval method=unwritten", "cannot be read"),
    BadInput("eval method=faulty", "module faulty of method faulty cannot be imported: SyntaxError", True),
    BadInput("eval method=needy", "needs no_such_package_anywhere, which is not found", True),
)
BAD_INPUTS = (*_OVERRIDES, *_COMMANDS, *_RESULTS, *_OUTSIDE)
