package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/sqlite"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/launcher"
)

// deps is what commands share: the world, the global flags, and what is made
// from them when a command first needs it.
type deps struct {
	World
	home string // --home
	json bool   // --json
}

// settings reads the settings once flags are known.
func (d *deps) settings(flags map[string]string) (configs.Settings, error) {
	all := map[string]string{}
	for k, v := range flags {
		if v != "" {
			all[k] = v
		}
	}
	if d.home != "" {
		all["home"] = d.home
	}
	return configs.LoadSettings(configs.SettingsInput{Env: d.lookupEnv, Dir: d.Dir, Flags: all})
}

// openStore opens the store in the home, making the home when it is new.
func openStore(ctx context.Context, s configs.Settings) (*sqlite.Store, error) {
	if err := os.MkdirAll(s.Home, 0o700); err != nil {
		return nil, &cluster.Failure{
			Kind: cluster.BadInput, What: "could not make Levin's folder " + s.Home, Err: err,
			Next: "set LEVIN_HOME to a folder you can write",
		}
	}
	return sqlite.Open(ctx, storePath(s))
}

// open is what a command begins with that looks at runs: the settings and the
// store, which the caller closes.
func (d *deps) open(ctx context.Context) (configs.Settings, *sqlite.Store, error) {
	settings, err := d.settings(nil)
	if err != nil {
		return settings, nil, err
	}
	store, err := openStore(ctx, settings)
	return settings, store, err
}

// Paths below the home.
func storePath(s configs.Settings) string          { return filepath.Join(s.Home, "levin.db") }
func runDir(s configs.Settings, run string) string { return filepath.Join(s.Home, "runs", run) }
func keyPath(dir string) string                    { return filepath.Join(dir, "id_ed25519") }
func socketPath(dir string) string                 { return filepath.Join(dir, "control.sock") }
func lockPath(dir string) string                   { return filepath.Join(dir, "controller.lock") }
func tempDir(s configs.Settings) string            { return filepath.Join(s.Home, "tmp") }

// cacheDir is for what can be had again: the agent's binaries, a fetched
// Terraform, initialised provider sets, digests of files.
func (d *deps) cacheDir(s configs.Settings) string {
	if xdg := d.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(xdg) {
		return filepath.Join(xdg, "levin")
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "levin")
	}
	return filepath.Join(s.Home, "cache")
}

// agentSource finds the agent's binary.
func (d *deps) agentSource(s configs.Settings) launcher.AgentSource {
	return launcher.FindAgent(filepath.Join(d.cacheDir(s), "agent"))
}

// logger writes debug lines to the file named by LEVIN_DEBUG, if it is set.
func (d *deps) logger() (*slog.Logger, func(), error) {
	file := d.Getenv("LEVIN_DEBUG")
	if file == "" {
		return slog.New(slog.DiscardHandler), func() {}, nil
	}
	f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, usagef("LEVIN_DEBUG: %w", err)
	}
	return slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: slog.LevelDebug})), func() { f.Close() }, nil
}

// controllerAlive reports whether a process holds the run. The kernel gives the
// lock back when its holder dies, however it dies.
func controllerAlive(dir string) bool {
	lock := flock.New(lockPath(dir), flock.SetFlag(os.O_RDWR))
	free, err := lock.TryLock()
	if err != nil {
		return false // no lock file: nobody ever held it
	}
	if free {
		lock.Unlock()
	}
	return !free
}

// findRun finds a run by its whole id, or by a beginning that only one run has.
// With "" it answers the newest run.
func findRun(ctx context.Context, store cluster.Store, id string) (cluster.Run, error) {
	if id != "" {
		run, err := store.Run(ctx, id)
		if err == nil || !errors.Is(err, cluster.ErrNotFound) {
			return run, err
		}
	}
	runs, err := store.Runs(ctx, cluster.RunFilter{})
	if err != nil {
		return cluster.Run{}, err
	}
	if id == "" {
		if len(runs) == 0 {
			return cluster.Run{}, usagef("there is no run\n  start one with `levin run APP`")
		}
		return runs[0], nil
	}
	var found []string
	var run cluster.Run
	for _, r := range runs {
		if strings.HasPrefix(r.ID, id) {
			found, run = append(found, r.ID), r
		}
	}
	switch len(found) {
	case 0:
		return cluster.Run{}, usagef("there is no run %q\n  `levin ps --all` lists them", id)
	case 1:
		return run, nil
	}
	return cluster.Run{}, usagef("%d runs begin with %q: %s", len(found), id, strings.Join(found, ", "))
}

// ids quotes machine names for a sentence.
func ids(machines []cluster.Machine) string {
	var names []string
	for _, m := range machines {
		names = append(names, fmt.Sprintf("%s (%s)", m.Name, m.Cloud))
	}
	return strings.Join(names, ", ")
}
