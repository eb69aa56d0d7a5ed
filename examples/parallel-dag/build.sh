#!/bin/sh
# Builds bin/$1 for the machine that will run it. Each component has a file of its
# own, because their machines may differ.
set -eu
export CGO_ENABLED=0 GOOS="$LEVIN_TARGET_OS" GOARCH="$LEVIN_TARGET_ARCH"
exec go build -buildvcs=false -o "bin/$1" .
