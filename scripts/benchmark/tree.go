package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// randomFile is content that cannot be compressed, like images or weights.
func randomFile(path string, size int, seed byte) error {
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(content)
	return os.WriteFile(path, content, 0o644)
}

// text is n bytes of lines with common words and numbers in them, like sources
// and logs.
func text(random *rand.Rand, n int) []byte {
	words := []string{
		"func", "return", "if err != nil", "range", "machine", "component", "context.Context", "the", "time.Duration", "loss", "epoch", "accuracy",
		"import numpy as np", "self.", "def forward", "for i in", "batch", "gradient", "=", "+=", "layer", "INFO", "WARN", "started", "finished", "value",
	}
	out := make([]byte, 0, n+64)
	for len(out) < n {
		for range 6 + random.IntN(8) {
			out = append(append(out, words[random.IntN(len(words))]...), ' ')
		}
		out = fmt.Appendf(out, "%d %.4f\n", random.IntN(100_000), random.Float64())
	}
	return out[:n]
}

// bigTree is mib MiB in files of 4 MiB, every other one of random bytes and the
// rest of text.
func bigTree(dir string, mib int) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(3, 4))
	for i, left := 0, mib; left > 0; i++ {
		size := min(4, left) << 20
		left -= size >> 20
		var err error
		if i%2 == 0 {
			err = randomFile(filepath.Join(dir, fmt.Sprintf("part-%04d.bin", i)), size, byte(i))
		} else {
			err = os.WriteFile(filepath.Join(dir, fmt.Sprintf("part-%04d.txt", i)), text(random, size), 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// manyFiles is n small text files in folders of a hundred.
func manyFiles(dir string, n int) error {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		sub := filepath.Join(dir, fmt.Sprintf("package%03d", i/100))
		if i%100 == 0 {
			if err := os.MkdirAll(sub, 0o755); err != nil {
				return err
			}
		}
		content := text(random, 200+random.IntN(4000))
		if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%05d.py", i)), content, 0o644); err != nil {
			return err
		}
	}
	return nil
}
