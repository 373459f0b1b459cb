# Every target does its own set-up: a fresh machine needs python3 (3.11+), make and the package index.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.stamp
PEERS  := bench/peers
export PIP_DISABLE_PIP_VERSION_CHECK = 1
# The tests start some 200 processes of Python: what the first has compiled, the others need not.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

# $(call install,ENVIRONMENT,FILE): by uv, in a tenth of pip's time. uv does not read pip's settings, such as an index of one's own:
# where it fails, pip installs the same files, held to the same hashes.
define install
@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
@echo "setting up $(1) ..."
@$(1)/bin/python -m pip install --quiet --require-hashes -r requirements/uv.txt
@$(1)/bin/uv pip install --quiet --python $(1)/bin/python --require-hashes -r $(2) \
  || { echo "uv could not, as it says above; pip tries"; $(1)/bin/python -m pip install --quiet --require-hashes -r $(2); }
endef

$(STAMP): requirements/dev.txt requirements/uv.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "runmgr needs Python 3.11 or newer; '$(PYTHON)' is older. Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(call install,$(VENV),requirements/dev.txt)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps -e .
	@touch $@

.PHONY: help
help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: setup
setup: $(STAMP) ## the project's own environment in .venv

.PHONY: demo
demo: $(STAMP) ## a batch of example prompts against the built-in simulated server
	@$(BIN)/python docs/examples/demo.py

.PHONY: test
test: $(STAMP) ## everything below: lint, types, layers, pytest
	@$(MAKE) --no-print-directory -j2 lint types layers pytest

.PHONY: lint
lint: $(STAMP) ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.PHONY: types
types: $(STAMP) ## basedpyright, strict
	$(BIN)/basedpyright

.PHONY: layers
layers: $(STAMP) ## import contracts
	$(BIN)/lint-imports

.PHONY: pytest
pytest: $(STAMP) ## the tests, in two processes
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal --inline-snapshot=disable

.venv-examples/.stamp: requirements/examples.txt
	$(call install,.venv-examples,$<)
	@touch $@

.PHONY: test-examples
test-examples: .venv-examples/.stamp ## the services of docs/examples/pool_*: FastAPI, Flask, Django, trio, Jupyter, Redis, Prometheus
	PYTHONPATH=. .venv-examples/bin/python -m pytest tests/examples -rs

.venv-ray/.stamp: requirements/ray.txt
	$(call install,.venv-ray,$<)
	@touch $@

# Ray binds the machine's outside address; in a network namespace of its own there is only loopback.
ALONE := unshare --net sh -c 'ip link set lo up && exec "$$@"' alone
.PHONY: test-ray
test-ray: .venv-ray/.stamp ## runmgr.cluster on Ray, for real; skipped where network namespaces cannot be made
	if unshare --net true 2>/dev/null; then PYTHONPATH=.:tests/ray $(ALONE) .venv-ray/bin/python -m pytest tests/ray -rs; \
	else PYTHONPATH=.:tests/ray .venv-ray/bin/python -m pytest tests/ray -rs; fi

.venv-datasets/.stamp: requirements/datasets.txt
	$(call install,.venv-datasets,$<)
	@touch $@

.PHONY: test-datasets
test-datasets: .venv-datasets/.stamp ## Hugging Face datasets as a batch's input, by the real library
	HF_HUB_OFFLINE=1 PYTHONPATH=. .venv-datasets/bin/python -W default -m pytest -W default tests/batch/test_hf_datasets.py -rs

.PHONY: test-inspect
test-inspect: $(STAMP) $(PEERS)/.venv-inspect/.stamp ## logs written for Inspect AI's viewer, opened by Inspect AI
	RUNMGR_INSPECT=$(PEERS)/.venv-inspect/bin/python $(BIN)/python -m pytest tests/batch/test_python_api.py -k inspect -rs

.PHONY: test-browser
test-browser: $(STAMP) ## report and view in headless Chromium, skipped where there is none; SHOTS=DIR keeps screenshots
	RUNMGR_BROWSER=1 RUNMGR_SCREENSHOTS=$(SHOTS) $(BIN)/python -m pytest tests/report/test_view.py -k chromium -rs

$(PEERS)/aimock/node_modules/.stamp: $(PEERS)/aimock/package-lock.json
	@command -v npm > /dev/null || { echo "node and npm are needed"; exit 2; }
	cd $(PEERS)/aimock && npm ci --no-audit --no-fund --silent && touch node_modules/.stamp

.PHONY: test-aimock
test-aimock: $(STAMP) $(PEERS)/aimock/node_modules/.stamp ## loads and agents against aimock (needs node)
	RUNMGR_PEERS=1 $(BIN)/python -m pytest tests/load/peers/test_aimock.py -rs

.PHONY: test-litellm
test-litellm: $(STAMP) $(PEERS)/.venv-litellm/.stamp ## loads and agents against the litellm proxy
	RUNMGR_PEERS=1 $(BIN)/python -m pytest tests/load/peers/test_litellm.py -rs

.PHONY: test-load-page
test-load-page: $(STAMP) ## the reports of loads in headless Chromium, skipped where there is none; SHOTS=DIR keeps screenshots
	RUNMGR_BROWSER=1 RUNMGR_SCREENSHOTS=$(SHOTS) $(BIN)/python -m pytest tests/load/test_page_in_browser.py -rs

SEEDS ?= 1000
.PHONY: simulate
simulate: $(STAMP) ## faults and crashes in virtual time, SEEDS=1000 of them
	$(BIN)/python -m runmgr.testing --seeds $(SEEDS)

.PHONY: nightly
nightly: $(STAMP) ## 5,000 programs against the supervisor instead of 200; 100 times the faults of a cluster; 200,000 arrivals through a whole load
	RUNMGR_PROGRAMS=5000 $(BIN)/python -m pytest -o faulthandler_timeout=0 tests/supervisor/test_programs.py
	RUNMGR_FAULTS=100 $(BIN)/python -m pytest -o faulthandler_timeout=0 tests/cluster/test_faults.py tests/cluster/test_quotas.py
	RUNMGR_ARRIVALS=200000 $(BIN)/python -m pytest -o faulthandler_timeout=0 tests/load/test_truth.py

FUZZ ?= 50
.PHONY: fuzz-providers
fuzz-providers: $(STAMP) ## decoders of the providers' answers: FUZZ=50 times the examples, of bytes, JSON, cuts and mutations
	RUNMGR_FUZZ=$(FUZZ) $(BIN)/python -m pytest -o faulthandler_timeout=0 tests/models/recorded

.PHONY: format
format: $(STAMP) ## ruff: mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: requirements
requirements: $(STAMP) ## pin again: requirements/*.txt and bench/peers/*.txt from their .in
	cd requirements && for name in uv runtime dev examples datasets ray; do ../$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-emit-package runmgr --quiet --upgrade $$name.in -o $$name.txt; done
	cd $(PEERS) && for name in *.in; do ../../$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --quiet --upgrade $$name -o $${name%.in}.txt; done

$(PEERS)/.venv-%/.stamp: $(PEERS)/%.txt
	$(call install,$(PEERS)/.venv-$*,$<)
	@touch $@

.PHONY: bench-overhead
bench-overhead: $(STAMP) $(PEERS)/.venv-pydantic-ai/.stamp ## cost of a run beside Pydantic AI and bare trio
	$(BIN)/python bench/overhead.py

.PHONY: bench-tail
bench-tail: $(STAMP) ## 10,000 runs of three 1-second turns beside bare trio
	$(BIN)/python bench/tail.py

.PHONY: bench-cancel
bench-cancel: $(STAMP) ## cancelling one run among 10,000 busy ones
	$(BIN)/python bench/cancel.py

.PHONY: bench-flight
bench-flight: $(STAMP) ## 100,000 runs in flight: memory, submission, cancelling them all beside bare trio
	$(BIN)/python bench/flight.py

.PHONY: bench-ledger
bench-ledger: $(STAMP) ## cost of accounting, reservation and the rate door a request
	$(BIN)/python bench/ledger.py

.PHONY: bench-pool
bench-pool: $(STAMP) ## cost of a pool's submission and result beside trio.from_thread
	$(BIN)/python bench/pool.py

.PHONY: bench-http
bench-http: $(STAMP) $(PEERS)/.venv-openai/.stamp ## CPU of a request beside bare h11 on trio and AsyncOpenAI
	$(BIN)/python bench/http_client.py

.PHONY: bench-batch
bench-batch: $(STAMP) $(PEERS)/.venv-inspect/.stamp ## a whole batch with two scorers beside Inspect AI
	$(BIN)/python bench/batch.py

.PHONY: bench-view
bench-view: $(STAMP) ## report and view of a million runs: seconds, memory, milliseconds a page
	$(BIN)/python bench/view.py

.PHONY: bench-gsm8k
bench-gsm8k: $(STAMP) ## GSM8K x 10 against a local server: CPU of both sides, and the server's bound
	$(BIN)/python bench/gsm8k.py --server $(GSM8K_SERVER) --solutions $(GSM8K_DATA)/model_solutions.jsonl --input $(GSM8K_DATA)/test.jsonl

.PHONY: bench-journal
bench-journal: $(STAMP) ## what the journal costs, beside plain sqlite3 inserts
	$(BIN)/python bench/journal.py

GSM8K_SERVER ?= ../shared/tools/gsm8k_server.py
GSM8K_DATA   ?= ../shared/data/gsm8k
.PHONY: kill-loop
kill-loop: $(STAMP) ## 50 times kill -9 of a batch with tools against a faulty server
	$(BIN)/python bench/kill_loop.py --server $(GSM8K_SERVER) --solutions $(GSM8K_DATA)/model_solutions.jsonl --input $(GSM8K_DATA)/test.jsonl

.PHONY: bench-load
bench-load: $(STAMP) $(PEERS)/.venv-aiperf/.stamp ## load made by one core beside AIPerf and bare h11 on trio
	$(BIN)/python bench/load.py

.PHONY: bench-sim
bench-sim: $(STAMP) ## CPU of the simulated server beside Starlette on hypercorn
	$(BIN)/python bench/sim.py

PEER_STAMPS := $(patsubst %,$(PEERS)/.venv-%/.stamp,pydantic-ai langgraph openai inspect aiperf)
.PHONY: bench-cluster
bench-cluster: .venv-ray/.stamp ## 20,000 runs over two Ray workers beside one process, journal on
	$(ALONE) .venv-ray/bin/python bench/cluster.py

.PHONY: bench-ray-kills
bench-ray-kills: .venv-ray/.stamp ## 20,000 runs while Ray workers and the driver are killed; Ctrl-C
	PYTHONPATH=.:tests/ray RAY_ENABLE_UV_RUN_RUNTIME_ENV=0 $(ALONE) .venv-ray/bin/python bench/ray_kills.py

.PHONY: bench
bench: $(STAMP) $(PEER_STAMPS) ## every measurement, in one table: bench/results/run.json (ONLY=tail,growth for some)
	$(BIN)/python bench/run.py $(if $(ONLY),--only $(ONLY))

.PHONY: bench-short
bench-short: $(STAMP) ## counts instead of times, in seconds: what `make test` holds
	$(BIN)/python bench/run.py --short

.PHONY: clean
clean: ## remove environments and what tests and benches leave
	rm -rf $(VENV) .venv-examples .venv-datasets .venv-ray $(PEERS)/.venv-* $(PEERS)/aimock/node_modules .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
