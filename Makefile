# What a developer types. `make` alone says what there is.

GO ?= go
# Debian packages that the tests with real clients need.
DEBIAN := docker.io iptables podman crun conmon netavark aardvark-dns skopeo buildah \
	nginx-light systemd-container mmdebstrap iproute2 jq strace ca-certificates
FUZZTIME ?= 5s
# Pull storms that every change must weather, small: on counts and ratios, which a
# busy machine does not flip. docs/loadtest.md says what each is about.
STORMS := cold-herd warm-burst upstream-stall upstream-silent cold-range slow-clients
GATE_DIR ?= bin/loadtest

.DEFAULT_GOAL := help
.PHONY: help debian-packages build run test test-deps race lint fuzz bench loadtest-gate clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 16

debian-packages:
	@printf '%s\n' $(DEBIAN)

build: ## the binary, as bin/registryd
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/registryd ./cmd/registryd

run: ## the daemon on 127.0.0.1:5000, without a configuration
	$(GO) run ./cmd/registryd serve

test: ## all tests; needs only Go, and says by name what it had to skip
	@$(GO) run ./cmd/testdeps build
	@if command -v apt-get >/dev/null; then $(GO) run ./cmd/testdeps layers; fi || true
	@# One package at a time: many tests bound a time, and must not disturb each other.
	@list=$$(mktemp); REGISTRYD_TEST_SKIPPED=$$list $(GO) test -count=1 -p 1 -timeout 30m ./...; status=$$?; \
		$(GO) run ./cmd/testdeps skipped $$list; rm -f $$list; exit $$status

test-deps: ## root: what the tests with real clients need, from Debian
	apt-get update
	DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(DEBIAN)
	$(GO) run ./cmd/testdeps rootfs

race: ## the tests under the race detector
	$(GO) test -race -timeout 30m ./...

lint: ## gofmt, vet, staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); if [ -n "$$unformatted" ]; then \
		echo "not formatted; run gofmt -w on:" $$unformatted; exit 1; fi
	$(GO) vet ./...
	@$(GO) run ./cmd/testdeps build staticcheck
	"$$($(GO) run ./cmd/testdeps which staticcheck)" ./...

fuzz: ## every fuzz target for FUZZTIME (5s) each
	@for dir in $$($(GO) list -f '{{.Dir}}' ./...); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$dir/*_test.go 2>/dev/null); do \
			(cd $$dir && $(GO) test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) -fuzzminimizetime=1s .) || exit 1; \
		done; \
	done

bench: ## the benchmarks, small
	$(GO) test -run='^$$' -bench=. -benchmem ./...

loadtest-gate: build ## small pull storms against this daemon; reports in bin/loadtest
	@mkdir -p $(GATE_DIR); status=0; for storm in $(STORMS); do \
		bin/registryd loadtest run $$storm --clients 30 --scale 0.3 --calibrate=false \
			--report $(GATE_DIR)/$$storm.html --json $(GATE_DIR)/$$storm.json || status=1; \
	done; exit $$status

clean: ## what was built here; the tests' cache stays
	rm -rf bin
