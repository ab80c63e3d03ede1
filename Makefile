# parbench. `make` alone shows what there is. Every target sets up what it needs by itself.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# What a run is made of; give them on the command line: make eval METHOD=fastv BUDGET=128
MODEL   ?= llava-tiny
METHOD  ?= par
DATASET ?= scenes
# Passed on only when you give it: without it a method runs its own rule (par: 64, prumerge: adaptive).
BUDGET  ?= 64
# Number of questions; empty means all of them. The first run of the small models is kept short.
LIMIT   ?= $(if $(filter llava-tiny qwen-tiny,$(MODEL)),1000)
# Comma lists for `make sweep`; empty means the sweep's own defaults.
METHODS ?=
BUDGETS ?=
MODELS ?=
DATASETS ?=
# Where a sweep runs: local, slurm, or a launcher of one's own in conf/launcher; empty means local.
LAUNCHER ?=
# Folder of runs; empty means results/runs.
RESULTS ?=
# What `make figures` draws where it is told nothing: the runs that are committed, and the pictures of them.
REFERENCE := results/reference/scenes results/reference/bench-llava-tiny-cpu.json out=results/reference/figures
# One part of the questions, such as 0/4, for `make eval` and `make sweep`; SHARDS=4 makes a sweep of all four.
SHARD ?=
SHARDS ?=
# Folder of recorded cases for `make parity`.
DIR ?= tests/golden
# Anything else: more Hydra overrides, or pytest's arguments for `make test`.
ARGS ?=
# The interpreter of a new .venv, such as python3.12; empty means 3.11 where there is one, else 3.12 or 3.13.
PYTHON ?=

RELEASE := import sys; print("%d.%d" % sys.version_info[:2])

VENV  := .venv
STAMP := $(VENV)/.stamp
PY    := $(VENV)/bin/python
RUN   := $(VENV)/bin/parbench
PYTEST := $(PY) -m pytest -q -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# A key that ARGS gives too is left to it: parbench refuses what is given twice.
given = $(if $($(1)),$(if $(filter $(2)=%,$(ARGS)),,$(2)=$($(1))))
lists = $(if $($(1)),'$(2)=[$($(1))]')
# Only what a person set, in the environment or on the command line, not the default above.
asked = $(if $(filter-out undefined default file,$(origin $(1))),$(call given,$(1),$(2)))
WHERE = $(call given,RESULTS,results_dir)
# A list where one is given, else the single value; both only where a person gave both, which parbench refuses.
either = $(if $($(1)),$(call lists,$(1),$(2)) $(call asked,$(3),$(4)),$(call given,$(3),$(4)))

# The variables that a target reads. Others on the command line are refused: ignored, they would mislead.
reads_eval    := MODEL METHOD DATASET BUDGET LIMIT SHARD RESULTS ARGS
reads_sweep   := MODEL MODELS METHODS BUDGETS DATASET DATASETS LIMIT SHARD SHARDS LAUNCHER RESULTS ARGS
reads_bench   := MODEL METHODS BUDGETS ARGS
reads_parity  := DIR ARGS
reads_status  := RESULTS ARGS
reads_merge   := RESULTS ARGS
reads_table   := RESULTS ARGS
reads_figures := RESULTS ARGS
reads_report  := RESULTS ARGS
reads_test    := ARGS
reads_test-fast := ARGS
reads_test-external := ARGS
READERS := eval sweep bench parity status merge table figures report test test-fast test-external
CHECKED := $(sort $(foreach target,$(READERS),$(reads_$(target))))
comma := ,
empty :=
space := $(empty) $(empty)
listed = $(subst $(space),$(comma) ,$(strip $(1)))
upper = $(shell echo '$(1)' | tr a-z A-Z)
# The variables of a target that one was probably meant to be: METHOD for METHODS or method.
near = $(strip $(foreach other,$(reads_$(2)),$(if $(filter $(other) $(other)S $(other:S=),$(call upper,$(1))),$(other))))
readers = $(strip $(foreach target,$(READERS),$(if $(filter $(1),$(reads_$(target))),$(target))))
whose = $(if $(call readers,$(1)),for $(call listed,$(call readers,$(1))),not a variable of this Makefile)
takes = $(call listed,$(or $(call near,$(1),$(2)),$(reads_$(2)),none))
on_command_line = $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
ours = $(filter $(CHECKED) $(shell echo '$(CHECKED)' | tr A-Z a-z),$(on_command_line))
GOALS := $(filter-out help,$(MAKECMDGOALS))
ifneq ($(GOALS),)
UNREAD := $(filter-out $(foreach goal,$(GOALS),$(reads_$(goal))),$(ours))
ifneq ($(UNREAD),)
WRONG := $(firstword $(UNREAD))
$(error $(WRONG) is $(call whose,$(WRONG)); $(firstword $(GOALS)) takes $(call takes,$(WRONG),$(firstword $(GOALS))))
endif
endif

.PHONY: docs help setup setup-gpu eval sweep status merge table figures report bench parity test test-fast test-external lint format wheel clean

help: ## this list
	@echo "make TARGET [VARIABLE=value ...]"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  MODEL=$(MODEL) METHOD=$(METHOD) DATASET=$(DATASET) BUDGET=$(BUDGET) LIMIT=$(LIMIT)"
	@echo "  METHODS=a,b BUDGETS=64,128 LAUNCHER=slurm RESULTS= ARGS='more overrides'"

setup: $(STAMP) ## make .venv from requirements.lock (done by every target when needed); PYTHON=python3.12 for another Python
ifneq ($(PYTHON),)
	@wanted=$$("$(PYTHON)" -c '$(RELEASE)' 2>/dev/null || echo "$(PYTHON)"); there=$$($(PY) -c '$(RELEASE)'); \
	[ "$${wanted#python}" = "$$there" ] || { \
	  echo ".venv is of Python $$there, not of $(PYTHON): make clean, then make setup PYTHON=$(PYTHON)." >&2; exit 1; }
endif

setup-gpu: $(STAMP) ## after setup: what a CUDA build of torch needs, torchvision included
	@$(PY) -c 'import sys, torch; sys.exit(torch.version.cuda is None)' || { \
	  echo "This torch is a CPU build, beside which torchvision does not import: nothing installed." >&2; exit 1; }
	$(PIP) install -c requirements.lock -e '.[gpu]'

eval: $(STAMP) ## evaluate one method: make eval METHOD=par BUDGET=64 LIMIT=200
	$(RUN) eval $(call given,MODEL,model) $(call given,METHOD,method) $(call given,DATASET,dataset) \
	  $(call asked,BUDGET,budget) $(call given,LIMIT,limit) $(call given,SHARD,shard) $(WHERE) $(ARGS)

sweep: $(STAMP) ## many methods and budgets: make sweep METHODS=par,fastv (or all) BUDGETS=64,128
	$(RUN) sweep $(call either,MODELS,models,MODEL,model) $(call lists,METHODS,methods) $(call lists,BUDGETS,budgets) \
	  $(call either,DATASETS,datasets,DATASET,dataset) $(call given,LIMIT,limit) $(call given,SHARD,shard) \
	  $(call given,SHARDS,shards) $(call given,LAUNCHER,launcher) $(WHERE) $(ARGS)

status: $(STAMP) ## what became of a sweep, while it goes on or after: make status RESULTS=results/runs
	$(RUN) status $(WHERE) $(ARGS)

merge: $(STAMP) ## shards of runs to whole runs: make eval SHARD=0/2, make eval SHARD=1/2, make merge
	$(RUN) merge $(WHERE) $(ARGS)

table: $(STAMP) ## runs compared, with intervals: make table RESULTS=results/runs ARGS='dataset=scenes limit=1000 --format=latex'
	$(RUN) table $(RESULTS) $(ARGS)

figures: $(STAMP) ## pictures, PNG and PDF, of the runs in results/reference or: make figures RESULTS=results/runs ARGS='limit=1000'
	$(RUN) figures $(or $(strip $(RESULTS) $(ARGS)),$(REFERENCE))

report: $(STAMP) ## one HTML file to click through: make report RESULTS=results/runs ARGS='out=results/report.html'
	$(RUN) report $(RESULTS) $(ARGS)

bench: $(STAMP) ## time and memory beside what FLOPs predict: make bench METHODS=all BUDGETS=64 ARGS='batch=[1,8]'
	$(RUN) bench $(call given,MODEL,model) $(call lists,METHODS,methods) $(call lists,BUDGETS,budgets) $(ARGS)

parity: $(STAMP) ## methods against recorded outputs of official code: make parity DIR=tests/golden
	$(RUN) parity $(DIR) $(ARGS)

test: $(STAMP) ## the tests that need no service, a file at a time on each core: make test ARGS="-k divprune"
	$(PYTEST) -m "not external" $(ARGS)

test-fast: $(STAMP) ## a few minutes of them: all without weights, and a method of each site from end to end
	$(PYTEST) -m "(unit or smoke) and not long" $(ARGS)

test-external: $(STAMP) ## the others: SLURM, Chromium, W&B, notebooks, full disks, killed processes; skipped where there is none
	$(PYTEST) -m external $(ARGS)

lint: $(STAMP) ## style, format, spelling, imports between packages, types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/typos
	PYTHONPATH=src $(VENV)/bin/lint-imports
	$(VENV)/bin/mypy

format: $(STAMP) ## put the code into the form that lint asks for
	$(VENV)/bin/ruff check --fix-only --quiet .
	$(VENV)/bin/ruff format .

wheel: $(STAMP) ## a wheel in dist/
	$(PY) -m hatchling build -t wheel

# Prints no advertisement for other tools.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(STAMP) ## the documentation site in site/, notebooks run; DOCS_NOTEBOOKS=false leaves them as they are
	$(PY) -m mkdocs build --strict

clean: ## remove .venv and caches; runs in results/ stay
	rm -rf $(VENV) build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# Set-up. uv where it is on PATH, plain pip elsewhere. The stamp is removed first and written last, so that an
# interrupted set-up starts again from an empty environment; a finished one is only brought up to date.
UV := $(shell command -v uv 2>/dev/null)
ifneq ($(UV),)
# uv does not read pip's settings; local wheels that pip is told of hold for uv too.
ifneq ($(strip $(PIP_FIND_LINKS)),)
export UV_FIND_LINKS ?= $(subst $(space),$(comma),$(strip $(PIP_FIND_LINKS)))
endif
NEW_VENV = "$(UV)" venv --quiet --clear --python $(or $(PYTHON),3.11) $(VENV)
PIP = "$(UV)" pip
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
else
FITS := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
NEW_VENV = for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3 python); do \
	    "$$python" -c '$(FITS)' 2>/dev/null && found=$$python && break; done; \
	  [ -n "$${found:-}" ] || { echo "parbench needs Python 3.11, 3.12 or 3.13 with venv$(if $(PYTHON),$(comma) which $(PYTHON) is not): install it (or uv), or name it with make PYTHON=/path/to/python3.11." >&2; exit 1; }; \
	  "$$found" -m venv --clear $(VENV)
PIP = $(PY) -m pip --disable-pip-version-check --no-input
endif
# A CUDA build of torch needs libraries that the lock leaves out. Where torch does not import, fetch those, nothing else.
TORCH = $(shell sed -n 's/^torch==/&/p' requirements.lock)

$(STAMP): requirements.lock pyproject.toml
	@set -euo pipefail; start=$$SECONDS; \
	if [ -e $@ ] && $(PY) -c '' 2>/dev/null; then \
	  echo "==> 1/3 .venv is older than the lock: bringing it up to date"; rm -f $@; \
	else \
	  echo "==> 1/3 new environment in .venv"; rm -f $@; $(NEW_VENV); \
	fi; \
	echo "==> 2/3 $$(grep -c '^[a-z].*==' requirements.lock) pinned packages, about 2.5 GB on disk: a few minutes the first time"; \
	$(PIP) install --no-deps -r requirements.lock; \
	$(PY) -c 'import torch' 2>/dev/null || { \
	  echo "==> this build of torch needs libraries of its own: fetching them"; \
	  $(PIP) install -c requirements.lock $(TORCH); $(PY) -c 'import torch'; }; \
	echo "==> 3/3 parbench itself"; \
	$(PIP) install --no-deps --no-build-isolation -e .; \
	touch $@; echo "==> ready after $$((SECONDS - start)) s"
