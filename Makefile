# `make` alone prints what there is. Each goal sets up what it needs (tools/set_up), once.

.DEFAULT_GOAL := help
.PHONY: help demo bus test prove bench check sbom fix words image image-run image-test image-prove image-pins pins clean
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
SOURCES := drivers ledger fares validator kiosk_ui backoffice firmware images tests tools
PROOFS := drivers ledger backoffice stories peers mutation

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## a morning on one bus line, on emulated hardware (CHAPTER=NAME, ARGS="--interactive")
	@tools/set_up demo
	@$(BIN)/kazashi words render --feed examples/town
	@$(BIN)/kazashi demo $(if $(CHAPTER),--chapter $(CHAPTER)) $(ARGS)

bus: ## what examples/bus.toml names: fare table, keys of desk and vehicle, spoken words (in build/; made once)
	@tools/set_up demo
	@$(BIN)/kazashi words render --feed examples/town
	@test -e build/town.table || $(BIN)/kazashi fares compile examples/town -o build/town.table --operator examples/town/operator.toml
	@test -e build/desk.keys || $(BIN)/kazashi card keys --new build/desk.keys
	@test -e build/bus.keys || $(BIN)/kazashi card keys --keys build/desk.keys --terminal build/bus.keys

test: ## the tests, with small numbers: 8 minutes at most
	@tools/set_up test
	@$(BIN)/kazashi words render --feed examples/town
	$(BIN)/python -m pytest -n 2 $(ARGS)

prove: ## the full numbers; say which: PART=ledger, … (stops and goes on where it was)
ifeq ($(filter $(PART),$(PROOFS)),)
	@echo "Say which part: make prove PART=…   ($(PROOFS))"
	@test -z "$(PART)"
else
	@tools/set_up test
	@$(BIN)/kazashi words render --feed examples/town
ifeq ($(PART),mutation)
	$(BIN)/python tools/mutation.py $(ARGS)
else
	$(BIN)/python -m pytest -n 2 --prove -m prove tests/$(PART) $(ARGS)
endif
endif

bench: ## the bars, measured here: a table, and build/bench.json
	@tools/set_up test
	@$(BIN)/kazashi words render --feed examples/town
	@$(BIN)/python tools/bench.py $(ARGS)

check: ## style, types, floors and known vulnerabilities; changes nothing
	@tools/set_up test
	$(BIN)/ruff format --check --quiet $(SOURCES)
	$(BIN)/ruff check --quiet $(SOURCES)
	$(BIN)/mypy
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	@$(BIN)/python tools/audit.py

sbom: ## what is pinned, with hashes and licences, as CycloneDX: build/sbom.json
	@tools/set_up test
	@$(BIN)/python tools/audit.py sbom

fix: ## the twin of check: formats, and mends what can be mended by itself
	@tools/set_up test
	$(BIN)/ruff check --fix --quiet $(SOURCES) || true
	$(BIN)/ruff format --quiet $(SOURCES)

words: ## render the spoken words into build/clips and check their readings
	@tools/set_up test
	@$(BIN)/kazashi words render --feed examples/town
	@$(BIN)/kazashi words check

ROLE ?= validator
ARCH ?= amd64
TIERS ?= 1-3
IMAGE := --role $(ROLE) --arch $(ARCH)
SIGNED := $(if $(KEY),--authority $(AUTHORITY) --certificate $(CERTIFICATE) --key $(KEY))

image: ## the appliance (ROLE=validator|kiosk ARCH=amd64|arm64 DEV=1; KEY= CERTIFICATE= AUTHORITY= sign the update): build/image/
	@tools/set_up image
	@$(BIN)/kazashi words render --feed examples/town
	@$(BIN)/python -m images build $(IMAGE) $(if $(DEV),--dev) $(SIGNED)

image-run: ## show it in QEMU: screen by VNC on the loopback, serial line here, a reader to lay a card on
	@tools/set_up image
	@$(BIN)/kazashi words render --feed examples/town
	@$(BIN)/python -m images build $(IMAGE) --dev $(SIGNED)
	@$(BIN)/python -m images run $(IMAGE) $(ARGS)

image-test: ## the appliance's tests (TIERS=1-3): built, in a container, in QEMU
	@tools/set_up test
	@tools/set_up image
	@$(BIN)/kazashi words render --feed examples/town
	@$(BIN)/python -m images build $(IMAGE) --dev
	KAZASHI_IMAGE=$(ROLE)-$(ARCH) KAZASHI_TIERS=$(TIERS) $(BIN)/python -m pytest -p no:randomly tests/image $(ARGS)

image-prove: ## all of them, with the full numbers (a plug is pulled 600 times): an hour and more
	@$(MAKE) image-test ROLE=validator TIERS=1-5 ARGS="--prove $(ARGS)"
	@$(MAKE) image-test ROLE=kiosk TIERS=1-5 ARGS="--prove $(ARGS)"

image-pins: ## choose the Debian packages of an image again: images/locks/ (fetches)
	@tools/set_up image
	@$(BIN)/python -m images pins $(IMAGE)

pins: ## solve requirements/*.txt again from pyproject.toml (fetches)
	@tools/set_up test
	@$(BIN)/python tools/pins.py

clean: ## remove what make made, except .venv and finished proofs
	rm -rf build demo-out mutants .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find drivers ledger fares validator kiosk_ui backoffice firmware images tests tools -name __pycache__ -prune -exec rm -rf {} +
