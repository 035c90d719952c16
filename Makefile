# What a developer, an operator and CI run. «make» alone lists the targets.
SHELL := /bin/sh
VENV := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help
help: ## this list
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do \
		printf '  make %-10s %s\n' "$$name" "$$what"; done

.PHONY: demo
demo: ## on a Debian 12 machine, as root: install, build, enable, connect two containers, show it
	@sh scripts/demo.sh

.PHONY: demo-down
demo-down: ## take away everything that «make demo» made
	@sh scripts/demo_down.sh

.PHONY: plugin
plugin: ## build/plugin, ready for «docker plugin create hawse:latest build/plugin»
	@sh scripts/build_plugin.sh

.PHONY: cli
cli: ## build/hawse, the command as one file
	@sh scripts/build_cli.sh

.PHONY: venv
venv: ## .venv with the locked requirements
	@sh scripts/venv.sh

.PHONY: check
check: lint unit ## what a change must pass before it is pushed: lint and unit tests, no root

.PHONY: lint
lint: venv ## format, lint, types, layers, generated files
	$(VENV)/ruff format --check .
	$(VENV)/ruff check .
	$(VENV)/mypy
	$(VENV)/lint-imports
	$(VENV)/python scripts/generate_abi.py --check
	clang-format --dry-run --Werror datapath/bpf/*.[ch] datapath/bpf/lib/*.h

.PHONY: unit
unit: venv ## the unit tests alone
	$(VENV)/pytest tests/unit

.PHONY: test
test: ## everything, real engines and a three-node Swarm included; installs what it needs; root, about half an hour
	@sh scripts/install_requirements.sh --test
	@$(MAKE) --no-print-directory lint
	@sh scripts/build_plugin.sh
	@sh scripts/build_cli.sh
	@sh scripts/test.sh

.PHONY: bench
bench: venv ## hawse beside Docker's own drivers, into docs/benchmarks; QUICK=1 takes minutes; root, a quiet machine
	@sh scripts/install_requirements.sh --test
	@sh scripts/build_plugin.sh
	@sh scripts/build_cli.sh
	@$(VENV)/python -m tests.bench $(if $(QUICK),--quick) $(BENCH)

.PHONY: lock
lock: ## pin the dependencies of setup.cfg anew: requirements/*.lock
	@sh scripts/lock.sh

.PHONY: abi
abi: venv ## datapath/abi.py from datapath/bpf/abi.h
	$(VENV)/python scripts/generate_abi.py

.PHONY: openapi
openapi: venv ## docs/openapi.json from the agent's API
	$(VENV)/python scripts/openapi.py

.PHONY: settings
settings: venv ## docs/settings.md from the table of settings
	$(VENV)/python -m plugin.settings_document >docs/settings.md

.PHONY: clean
clean: ## remove build/ and the caches of the tools; .venv and the cached root file systems stay
	rm -rf build datapath/bpf/compiled .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
