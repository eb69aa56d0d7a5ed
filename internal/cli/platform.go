package cli

import "runtime"

// The platform this binary runs on, as Go names it.
const (
	hostOS   = runtime.GOOS
	hostArch = runtime.GOARCH
)
