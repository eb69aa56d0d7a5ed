package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/local/machine"
)

var _ provision.Sweeper = (*Cloud)(nil)

// Find lists the machines of a run, or of every run when run is "", that live
// below Levin's folder, and those that died and left files or processes. Such a
// one no longer says whose it was: a name that begins with the run's is its own.
func (c *Cloud) Find(ctx context.Context, run string) ([]provision.Found, error) {
	dirs, err := Strays(c.cfg.Home)
	if err != nil {
		return nil, err
	}
	var found []provision.Found
	for _, dir := range dirs {
		f := provision.Found{
			Cloud: c.cfg.Name, Kind: "machine", ID: filepath.Base(dir), Name: filepath.Base(dir),
			Status: provision.StatusStopped, PricePerHour: c.cfg.Price,
		}
		if info, err := machine.Read(dir); err == nil {
			f.Run, f.Status = info.Run, provision.StatusRunning
		}
		if stat, err := os.Stat(dir); err == nil {
			f.CreatedAt = stat.ModTime()
		}
		if run == "" || f.Run == run || f.Run == "" && strings.HasPrefix(f.Name, run+"-") {
			found = append(found, f)
		}
	}
	return found, nil
}

// Remove ends machines with all their processes and removes their folders.
func (c *Cloud) Remove(ctx context.Context, found []provision.Found) error {
	var errs []error
	for _, f := range found {
		dir, err := c.dir(f.ID)
		if err == nil {
			err = Sweep(ctx, dir)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
