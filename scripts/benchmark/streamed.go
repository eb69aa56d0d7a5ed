package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/levinrun/levin/cluster"
)

const (
	streamedMiB  = 1024
	streamedStep = 64  // MiB written at once
	streamedRate = 100 // MB a second
)

// streamedOutput has works write a large output, and looks at how long their
// machines stay when the last of it is written: what has been written before
// should have come back by then.
func streamedOutput(ctx context.Context, r *rig) ([]row, error) {
	if err := r.build(ctx); err != nil {
		return nil, err
	}
	p, err := r.newPlace("streamed")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	app, err := p.app(fmt.Sprintf("name: streamed\ncomponents:\n  w:\n    files: []\n    run: %q\n    outputs: [out.bin]\n",
		fmt.Sprintf("'%s' %s out.bin %d", self, writeVerb, streamedMiB)))
	if err != nil {
		return nil, err
	}
	want, err := streamedDigest(streamedMiB)
	if err != nil {
		return nil, err
	}
	var stops, gones, wrote []time.Duration
	for range r.rounds {
		done, err := p.run(ctx, r.levin, "--cloud=local", app)
		if err != nil {
			return nil, err
		}
		var said writeSaid
		if err := json.Unmarshal(done.first(cluster.EventCallSucceeded).Result, &said); err != nil || said.Last.IsZero() {
			return nil, fmt.Errorf("the work did not say when it wrote last: %w", err)
		}
		stop, gone := done.first(cluster.EventMachineStopRequested), done.first(cluster.EventMachineGone)
		stops, gones = append(stops, stop.Time.Sub(said.Last)), append(gones, gone.Time.Sub(said.Last))
		wrote = append(wrote, said.Last.Sub(said.First))
		if err := checkStreamed(p, done.first(cluster.EventCallSucceeded), want); err != nil {
			return nil, err
		}
	}
	return []row{measured("an output of 1 GiB written while the work runs: last write → `machine.stop_requested`", percentile(stops, 100).Seconds(), 1, "s", false,
		"the slowest of %d runs, median %s; until the machine is gone: median %s. On local: %d MiB of random bytes at %d MB/s, %d MiB at once and the last of them right before the exit (writing took %s); "+
			"size and SHA-256 of what came back are right in every run",
		r.rounds, seconds(median(stops)), seconds(median(gones)), streamedMiB, streamedRate, streamedStep, seconds(median(wrote)))}, nil
}

// checkStreamed looks at what has come back, and removes it.
func checkStreamed(p *place, call told, want string) error {
	file := p.path("home", "runs", call.Run, "artifacts", call.Call, "out.bin")
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); n != streamedMiB<<20 || got != want {
		return fmt.Errorf("%s has %d bytes and digest %s, expected %d and %s", file, n, got, streamedMiB<<20, want)
	}
	return os.Remove(file)
}

// streamedDigest is the SHA-256 of what the work writes.
func streamedDigest(mib int) (string, error) {
	h := sha256.New()
	err := eachStep(mib, func(step []byte) error { return hashed(h, step) })
	return hex.EncodeToString(h.Sum(nil)), err
}

func hashed(h hash.Hash, b []byte) error {
	_, err := h.Write(b)
	return err
}

// eachStep gives random bytes in steps; the same ones each time.
func eachStep(mib int, do func(step []byte) error) error {
	random := rand.NewChaCha8([32]byte{7})
	buffer := make([]byte, streamedStep<<20)
	for left := mib; left > 0; left -= streamedStep {
		step := buffer[:min(left, streamedStep)<<20]
		random.Read(step)
		if err := do(step); err != nil {
			return err
		}
	}
	return nil
}

// writeVerb makes this program the work of an app: it writes a file at a steady
// pace and gives the times of its first and last write as its result.
const writeVerb = "write-output"

type writeSaid struct{ First, Last time.Time }

func writeOutput(args []string, result string) error {
	if len(args) != 2 || result == "" {
		return fmt.Errorf("%s is for the apps of this benchmark", writeVerb)
	}
	mib, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	f, err := os.Create(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	said := writeSaid{First: time.Now()}
	var written int
	err = eachStep(mib, func(step []byte) error {
		written += len(step)
		due := said.First.Add(time.Duration(float64(written) / (streamedRate * 1e6) * float64(time.Second)))
		time.Sleep(time.Until(due))
		_, err := f.Write(step)
		said.Last = time.Now()
		return err
	})
	if err != nil {
		return err
	}
	text, err := json.Marshal(said)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Clean(result), text, 0o600)
}
