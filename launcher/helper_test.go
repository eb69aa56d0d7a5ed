package launcher_test

import (
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"
)

func connectStdio(addr string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		io.WriteString(os.Stderr, err.Error())
		os.Exit(1)
	}
	go func() {
		io.Copy(c, os.Stdin)
		c.(*net.TCPConn).CloseWrite()
	}()
	io.Copy(os.Stdout, c)
	os.Exit(0)
}

const (
	goos   = runtime.GOOS
	goarch = runtime.GOARCH
)

// age lets the files that were just written become old enough for their digests
// to be remembered.
func age(testing.TB) { time.Sleep(2100 * time.Millisecond) }
