# `make help` lists the targets.

GO        ?= go
CACHE     := $(or $(HEIMDALL_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/heimdall)
TOOLS     := $(CACHE)/bin
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD     := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
# The agent's few HTTP connections are to its own socket, to Prometheus and to a collector: it needs no HTTP/2, which is half a megabyte.
AGENT_TAGS := nethttpomithttp2
PLATFORMS := linux/amd64 linux/arm64 linux/arm/6 linux/arm/7 darwin/amd64 darwin/arm64 windows/amd64
ELSEWHERE := linux/arm64 darwin/arm64 windows/amd64
FUZZTIME  ?= 10s
BENCH     ?= .
SOAK      ?= 10m

# The packages whose tests take longest begin first, so that none of them runs alone at the end. One more runs at a time than there
# are cores, because these mostly wait.
LONGEST   := packaging/e2e agent/radio agent/link collector/store agent/spool packaging/e2e/soak agent/survey collector/api collector/link
AT_ONCE   := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
# What the race detector would only slow down, several times: libraries of pure reckoning, and SQLite, which is C in Go. It also has
# each conversion of a pointer checked, of which dsp makes one for each float whose bits it looks at.
UNCHECKED := $(foreach library,modernc.org/... gonum.org/... math,-gcflags='$(library)=-race=false -d=checkptr=0') \
	-gcflags=github.com/fulgidus/heimdall/dsp/...=-d=checkptr=0

GOLANGCI_LINT := golangci-lint/v2/cmd/golangci-lint@v2.15.0
GOVULNCHECK   := golang.org/x/vuln/cmd/govulncheck@v1.9.0
NFPM          := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.44.2
CYCLONEDX     := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
PROTOC_GEN_GO := google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12

export HEIMDALL_REALDATA ?= $(abspath $(CURDIR)/../shared/realdata)

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/heimdall-agent and bin/heimdall-collector for this machine, static
	$(BUILD) -tags $(AGENT_TAGS) -o bin/heimdall-agent ./agent
	$(BUILD) -o bin/heimdall-collector ./collector

.PHONY: demo
demo: build ## seven simulated stations hear one transmitter, on this machine only (DEMO_EXIT=1: leave when done)
	bin/heimdall-collector demo $(if $(DEMO_EXIT),--exit)

.PHONY: servers
servers: ## install the servers that the tests run against
	@sh packaging/servers/install.sh

.PHONY: e2e-up
e2e-up: servers ## start those servers for a person and print their addresses
	$(GO) run ./packaging/servers/cmd up

.PHONY: test
test: servers ## everything a change must pass, race detector on, real servers included
	@$(GO) run ./packaging/servers/cmd versions
	$(GO) test -race -timeout 20m -p $(AT_ONCE) $(UNCHECKED) $(addprefix ./,$(LONGEST)) ./...

.PHONY: soak
soak: servers ## faults of all kinds for SOAK (10m), then the proof; SEED repeats a run, SOAK_FAULTS chooses, SOAK_LOG collects
	$(GO) run ./packaging/e2e/soak/cmd -for $(SOAK) $(if $(SEED),-seed $(SEED)) $(if $(SOAK_FAULTS),-faults $(SOAK_FAULTS)) $(if $(SOAK_LOG),-log $(SOAK_LOG))

.PHONY: cover
cover: servers ## coverage by package; fails below the project's marks
	sh packaging/cover.sh

.PHONY: tools
tools:
	@mkdir -p $(TOOLS)
	@[ -x $(TOOLS)/golangci-lint ] && $(TOOLS)/golangci-lint --version | grep -q 'version 2\.15\.0 ' || GOBIN=$(TOOLS) $(GO) install github.com/golangci/$(GOLANGCI_LINT)
	@[ -x $(TOOLS)/govulncheck ] || GOBIN=$(TOOLS) $(GO) install $(GOVULNCHECK)

.PHONY: lint
lint: tools ## golangci-lint (with gofumpt and the import rules), go vet here and for other platforms, govulncheck
	$(TOOLS)/golangci-lint run ./...
	$(TOOLS)/golangci-lint run --build-tags faults ./...
	$(GO) vet ./...
	$(GO) vet -tags faults ./...
	$(GO) vet -tags purego ./dsp/...
	@set -e; for p in $(ELSEWHERE); do echo "go vet for $$p"; GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build ./...; GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) vet ./...; done
	@echo "go build for linux/arm, which has 32 bits"; GOOS=linux GOARCH=arm CGO_ENABLED=0 $(GO) build ./...
	@sh packaging/vulncheck.sh $(TOOLS)/govulncheck

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME each, or FUZZCOUNT=400000x executions; says how many in all
	@GO="$(GO)" FUZZTIME=$(FUZZTIME) FUZZCOUNT=$(FUZZCOUNT) sh packaging/fuzz.sh

.PHONY: bench
bench: bench-dsp bench-e2e ## the engine against its peers, the whole way against Telegraf, then all benchmarks; BENCH selects these
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

.PHONY: bench-dsp
bench-dsp: build ## our spectrum against FFTW, VOLK, GNU Radio, scipy, ...: run bench-peers once; DSP='-rounds 3 -only cu8' runs less
	$(GO) run ./packaging/bench/dsp $(DSP)

.PHONY: bench-e2e
bench-e2e: servers telegraf build ## the whole way against Telegraf; E2E='-rounds 1 -only frames' runs less
	$(GO) run ./packaging/bench $(E2E)

.PHONY: bench-peers
bench-peers: telegraf ## install and build the peers of both: FFTW and others from Debian (as root), Telegraf
	@sh packaging/bench/dsp/peers/install.sh

.PHONY: telegraf
telegraf:
	@sh packaging/bench/peers.sh

.PHONY: quality
quality: ## false alarms, detection and estimates of dsp against their bounds: tables, and the chart of its README
	$(GO) run ./dsp/quality -chart dsp/quality.svg $(QUALITY)

.PHONY: golden
golden: ## write the golden files and the generated code again
	GOBIN=$(TOOLS) $(GO) install $(PROTOC_GEN_GO)
	PATH="$(TOOLS):$$PATH" $(GO) generate ./...
	$(GO) test ./protocol -update
	$(GO) test ./collector/store -run TestSchema -update

.PHONY: package
package: tools-package ## everything that is released, into dist/: programs, deb and rpm, bills of materials, checksums; the same bytes every time
	@rm -rf dist
	@GO="$(GO)" TOOLS=$(TOOLS) VERSION=$(VERSION) PLATFORMS="$(PLATFORMS)" sh packaging/packages/build.sh
	@ls -l dist

.PHONY: package-test
package-test: servers tools-package ## build deb and rpm twice, and live with them under a systemd of its own: first run, kill, upgrade, purge (as root, minutes)
	HEIMDALL_PACKAGES=1 $(GO) test -v -count 1 -run TestPackages -timeout 15m ./packaging/packages

.PHONY: tools-package
tools-package:
	@mkdir -p $(TOOLS)
	@[ -x $(TOOLS)/nfpm ] || GOBIN=$(TOOLS) GOFLAGS= $(GO) install $(NFPM)
	@[ -x $(TOOLS)/cyclonedx-gomod ] || GOBIN=$(TOOLS) GOFLAGS= $(GO) install $(CYCLONEDX)
