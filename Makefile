# Development commands. Users need none of them: `go run ./cmd/levin` and
# `go test ./...` do everything.

# As agent.BuildFlags, which a test holds this line against.
AGENT_FLAGS = -trimpath -buildvcs=false -tags=nethttpomithttp2 -gcflags=std=-l "-ldflags=-s -w"

.PHONY: build test lint bench release clean

build: ## bin/levin and bin/levin-agent for this machine
	CGO_ENABLED=0 go build -trimpath -o bin/ ./cmd/levin
	CGO_ENABLED=0 go build $(AGENT_FLAGS) -o bin/ ./cmd/levin-agent

release: ## dist/levin for this machine with the agents inside: it needs no Go toolchain
	mkdir -p launcher/agentbin/files dist
	for arch in amd64 arm64; do \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch go build $(AGENT_FLAGS) -o dist/levin-agent-linux-$$arch ./cmd/levin-agent && \
		gzip -9 -n -c dist/levin-agent-linux-$$arch > launcher/agentbin/files/levin-agent-linux-$$arch.gz || exit 1; \
	done
	CGO_ENABLED=0 go build -trimpath -tags embed_agent -o dist/ ./cmd/levin

test: ## the same command as the gate
	go test ./...

lint:
	gofmt -l .
	go vet ./...
	go tool staticcheck ./...

bench: ## the numbers of the README
	scripts/bench

clean:
	rm -rf bin dist launcher/agentbin/files
