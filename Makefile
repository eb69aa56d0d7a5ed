# Development commands. Users need none of them: `go run ./cmd/levin` and
# `go test ./...` do everything.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null)

.PHONY: build test lint bench release clean

build: ## bin/levin and bin/levin-agent for this machine
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/levin
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/ ./cmd/levin-agent

test: ## the same command as the gate
	go test ./...

lint:
	gofmt -l .
	go vet ./...
	go tool staticcheck ./...

bench: ## the numbers of the README
	scripts/bench

clean:
	rm -rf bin dist
