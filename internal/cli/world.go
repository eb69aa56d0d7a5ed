package cli

import (
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// World is everything a command may touch outside its arguments, so that a test
// can stand in for all of it.
type World struct {
	Args   []string // without the program's name
	Env    []string // KEY=VALUE
	Dir    string   // working directory
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Now    func() time.Time
	// Interrupts tells of Ctrl-C; nil in tests that send none.
	Interrupts *Interrupts
}

// OSWorld is the real one.
func OSWorld() (World, error) {
	dir, err := os.Getwd()
	if err != nil {
		return World{}, err
	}
	return World{
		Args: os.Args[1:], Env: os.Environ(), Dir: dir,
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Now: time.Now, Interrupts: NewInterrupts(os.Stderr),
	}, nil
}

// Getenv gives a variable's value, or "".
func (w World) Getenv(key string) string {
	v, _ := w.lookupEnv(key)
	return v
}

func (w World) lookupEnv(key string) (string, bool) {
	for i := len(w.Env) - 1; i >= 0; i-- {
		if k, v, ok := strings.Cut(w.Env[i], "="); ok && k == key {
			return v, true
		}
	}
	return "", false
}

// terminal gives the file behind a stream when it is a terminal.
func terminal(stream any) (*os.File, bool) {
	f, ok := stream.(*os.File)
	return f, ok && term.IsTerminal(int(f.Fd()))
}
