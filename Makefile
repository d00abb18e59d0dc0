# Every target works on a fresh machine that has Go: what else is needed is fetched or installed, or named in one sentence.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# Without cgo no C compiler is needed, and programs and tests share what is compiled.
export CGO_ENABLED := 0

MODULES := $(patsubst %/go.mod,%,$(wildcard */go.mod */*/go.mod))
CODE    := $(filter-out tools,$(MODULES))
TOOLS   := $(CURDIR)/.tools/bin

.PHONY: help
help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build postgres ## build and start everything on this machine; Ctrl-C stops it
	@bin/galley up

.PHONY: demo
demo: build postgres ## the same in a temporary directory, once, and clean up
	@bin/galley demo

.PHONY: build
build: go ## build bin/galley
	@go build -o bin/galley ./cmd/galley

.PHONY: test
test: go postgres ## the tests of every module
	go test -count=1 work # the end-to-end tests build programs that the test cache does not see

.PHONY: race
race: go postgres ## the tests of every module under the race detector, but those that only read files and build
	CGO_ENABLED=1 go test -race -count=1 $$(go list work | grep -v /tests/deployment)

.PHONY: lint
lint: tools ## lint every module
	$(TOOLS)/golangci-lint run $(patsubst %,./%/...,$(CODE))

.PHONY: bench
bench: go postgres ## measure throughput and latency
	go run ./tests/cmd/bench $(ARGS)

.PHONY: chaos
chaos: go postgres ## kill -9 everything under load, many times, and check that nothing is lost
	go run ./tests/cmd/chaos $(ARGS)

.PHONY: docs
docs: go ## write the pages of the components and their part of the recipe schema
	@go run ./tests/cmd/reference

.PHONY: check
check: go ## build and vet every module alone, and see that its go.mod is tidy
	@set -e; for module in $(CODE); do \
		echo "$$module"; \
		(cd $$module && GOWORK=off go build ./... && GOWORK=off go vet ./...); \
	done
	@set -e; for module in $(MODULES); do (cd $$module && GOWORK=off go mod tidy -diff); done

.PHONY: cross
cross: go ## build for macOS, to see that it compiles there
	GOOS=darwin GOARCH=arm64 go build -o /dev/null ./cmd/galley

.PHONY: tidy
tidy: go ## tidy every go.mod
	@set -e; for module in $(MODULES); do (cd $$module && GOWORK=off go mod tidy); done

.PHONY: tools
tools: go ## install the pinned developer tools into .tools/bin
	@cd tools && GOWORK=off GOBIN=$(TOOLS) go install tool

.PHONY: go
go:
	@scripts/go.sh

.PHONY: postgres
postgres:
	@scripts/postgres.sh
