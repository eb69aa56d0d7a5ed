package main

import (
	"errors"
	"os"
	"path/filepath"
	"runtime/pprof"
)

// withProfile writes a CPU profile of do to a file.
func withProfile(file string, do func() error) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return errors.Join(err, f.Close())
	}
	err = do()
	pprof.StopCPUProfile()
	return errors.Join(err, f.Close())
}
