# Everything here works in a fresh clone with an empty home, as root and as an ordinary user. `make help` lists it.

SHELL := /bin/sh

# Go wants a home to keep its caches in. Where there is none that can be written, .cache serves.
ifneq ($(shell test -n "$$HOME" && test -w "$$HOME" && echo yes),yes)
export HOME := $(CURDIR)/.cache/home
export GOFLAGS := $(GOFLAGS) -modcacherw
endif

# What to run and how long, for those who want less: make test PACKAGES=./internal/feed RUN=TestSweep
PACKAGES ?= $$(go list -m -f '{{.Dir}}/...')
RUN      ?= .
FUZZTIME ?= 30s
SOAKTIME ?= 2m
SOAKSEED ?= 1
SOAKROWS ?= 100000
SOAKRATE ?= 3000
TOLERANCE ?= 2

.DEFAULT_GOAL := help
.PHONY: help demo build test lint bench bench-check bench-record browser clients matrix soak fuzz setup clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name what; do printf '%-18s %s\n' "$$name" "$$what"; done

demo: ## a private Postgres, a shop that writes orders, and the server: open the address that it prints
	@scripts/setup.sh demo
	@test -x bin/notifyql || echo "building the server: a minute or two where nothing of it was built before"
	@$(MAKE) --no-print-directory build
	@exec bin/notifyql demo $(ARGS)

build: ## the binary, bin/notifyql
	CGO_ENABLED=0 go build -tags grpcnotrace -trimpath -o bin/notifyql ./cmd/server

# One package more at once than there are processors: many tests wait.
test: ## install what is missing, lint, and run all tests with the race detector
	@scripts/setup.sh test
	@$(MAKE) --no-print-directory lint
	go test -p $$(($$(getconf _NPROCESSORS_ONLN) + 1)) $$(command -v "$$(go env CC)" >/dev/null && echo -race) -timeout 15m -run '$(RUN)' $(PACKAGES)

lint: ## gofumpt, go vet, staticcheck
	@unformatted=$$(find . -name '*.go' -not -path './.cache/*' -not -path '*/node_modules/*' | xargs go tool gofumpt -l) && \
	if [ -n "$$unformatted" ]; then echo "not formatted; run: go tool gofumpt -w" $$unformatted >&2; exit 1; fi
	go vet $$(go list -m -f '{{.Dir}}/...')
	go tool staticcheck $$(go list -m -f '{{.Dir}}/...')

bench: ## what is promised about speed, each figure beside a raw baseline in the same run
	@scripts/setup.sh bench
	go run ./bench $(ARGS)

bench-check: ## a short share of bench, compared with the ratios in bench/ratios.json: fails if one is worse than TOLERANCE (2) allows
	@scripts/setup.sh bench
	go run ./bench -seconds 2 -check bench/ratios.json -tolerance $(TOLERANCE)

bench-record: ## write those ratios anew
	@scripts/setup.sh bench
	go run ./bench -seconds 2 -record bench/ratios.json

browser: ## the tests that need Chromium
	@scripts/setup.sh chromium
	go test -tags browser ./internal/web
	go test -tags browser -run InABrowser ./internal/e2e

clients: ## our JavaScript client; code generators of three stacks, and a federation gateway, from npm
	@scripts/setup.sh test
	go test -v -run 'JavaScript|AList' ./internal/e2e
	go test -v -tags codegen,federation ./test/clients ./test/federation

matrix: ## the tests that use Postgres, on each version from 13 to 18
	@scripts/setup.sh test matrix
	@scripts/matrix.sh

soak: ## random schedules for SOAKTIME (2m), real trouble for as long (SOAKSEED, SOAKROWS, SOAKRATE), and 100,000 rows and filters against SQL
	@scripts/setup.sh test
	go test -timeout 0 -run 'Simulator$$|EveryScheduleOfModes' -v ./internal/feed -sim.time $(SOAKTIME) -sim.deep
	go test -timeout 0 -run Nemesis -v ./internal/nemesis -nemesis.time $(SOAKTIME) -nemesis.seed $(SOAKSEED) -nemesis.bulk $(SOAKROWS) -nemesis.rate $(SOAKRATE)
	SOAK=20 go test -timeout 0 -run EvalIsSQL -v ./internal/filter

fuzz: ## each fuzz test for FUZZTIME (30s)
	@scripts/fuzz.sh $(FUZZTIME)

setup: ## only install what the tests need and is missing
	@scripts/setup.sh test

clean: ## remove what was built and what setup put into .cache
	@if [ -d .cache ]; then chmod -R u+w .cache; fi
	rm -rf bin .cache test/npm/node_modules
