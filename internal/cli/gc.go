package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/gofrs/flock"
	"github.com/spf13/cobra"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/internal/ui"
	"github.com/levinrun/levin/provision"
)

type gcOptions struct {
	Cloud  string
	DryRun bool
}

func newGC(d *deps) *cobra.Command {
	var o gcOptions
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Find everything in the clouds that carries Levin's tags; remove what is expired or nobody's",
		Long: `Search every configured region of the clouds for what carries Levin's tags, whatever
Terraform's states say: machines, disks, keys, firewall rules. Each is shown with the run
it belongs to, what it costs, and whether it is to go:

  of a run under way        stays
  of a run that has ended   goes
  of a run unknown here     stays until it expires: another computer's run may need it
  expired                   goes

On a terminal nothing is removed unless --dry-run=false says so.`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("dry-run") {
				_, o.DryRun = terminal(d.Stdout)
			}
			return d.gc(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Cloud, "cloud", "", "clouds to search, names with commas (default: those that runs have used, those set up in the settings, and the default cloud)")
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "only show what would be removed (default on a terminal)")
	return cmd
}

// gcLine is one thing of `levin gc --json`.
type gcLine struct {
	provision.Judged
	Removed bool `json:"removed"`
}

func (d *deps) gc(ctx context.Context, o gcOptions) error {
	settings, store, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer store.Close()
	logger, closeLog, err := d.logger()
	if err != nil {
		return err
	}
	defer closeLog()
	names := splitClouds(o.Cloud)
	if len(names) == 0 {
		if names, err = sweepable(ctx, settings, store); err != nil {
			return err
		}
	}
	clouds, closeClouds, err := d.newClouds(settings, names, cluster.NewJournal(store), logger)
	if err != nil {
		return err
	}
	defer closeClouds()

	live := func(run string) bool { return d.isLive(settings, run) }
	judged, searchErr := provision.FindAll(ctx, clouds, store, d.Now(), live)
	var going []provision.Found
	if !o.DryRun {
		for _, j := range judged {
			if j.Remove {
				going = append(going, j.Found)
			}
		}
	}
	removeErr := provision.RemoveFound(ctx, clouds, going)
	removed := map[string]bool{}
	for _, f := range going {
		removed[keyOf(f)] = removeErr == nil
	}
	if removeErr != nil { // some of it may be gone all the same
		d.markGone(ctx, clouds, removed)
	}
	if err := d.printGC(judged, removed, o.DryRun); err != nil {
		return err
	}
	if len(judged) == 0 && searchErr == nil && !d.json {
		fmt.Fprintln(d.Stdout, "nothing in the clouds carries Levin's tags: "+strings.Join(names, ", "))
	}
	if err := errors.Join(searchErr, removeErr); err != nil {
		return &cluster.Failure{Kind: cluster.Unclean, What: "not everything could be searched and removed", Err: err,
			Next: "what is not listed may still cost money; try again, or look into the cloud's own console"}
	}
	return nil
}

// isLive reports whether a run's controller holds its lock; the kernel frees the
// lock of one that died.
func (d *deps) isLive(s configs.Settings, run string) bool {
	lock := flock.New(lockPath(runDir(s, run)), flock.SetFlag(os.O_RDONLY))
	taken, err := lock.TryRLock()
	if taken {
		lock.Unlock()
	}
	return err == nil && !taken
}

// markGone looks again for what was to go.
func (d *deps) markGone(ctx context.Context, clouds []provision.Cloud, removed map[string]bool) {
	for _, cloud := range clouds {
		sweeper, ok := cloud.(provision.Sweeper)
		if !ok {
			continue
		}
		left, err := sweeper.Find(ctx, "")
		if err != nil {
			continue // it counts as not removed
		}
		for key := range removed {
			removed[key] = removed[key] || strings.HasPrefix(key, cloud.Name()+"/")
		}
		for _, f := range left {
			delete(removed, keyOf(f))
		}
	}
}

// sweepable gives the clouds that something of Levin's may be in: the default
// ones, those that runs have used, and those that the settings set up.
func sweepable(ctx context.Context, s configs.Settings, store cluster.Store) ([]string, error) {
	names := splitClouds(s.Cloud)
	for name, c := range s.Clouds {
		if !reflect.DeepEqual(c, configs.CloudSettings{Module: c.Module}) {
			names = append(names, name)
		}
	}
	runs, err := store.Runs(ctx, cluster.RunFilter{})
	if err != nil {
		return nil, err
	}
	for _, r := range runs {
		for _, name := range splitClouds(r.Cloud) {
			if _, ok := s.Clouds[name]; ok {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

func keyOf(f provision.Found) string {
	return strings.Join([]string{f.Cloud, f.Region, f.Zone, f.Kind, f.ID}, "/")
}

func (d *deps) printGC(judged []provision.Judged, removed map[string]bool, dryRun bool) error {
	if d.json {
		enc := json.NewEncoder(d.Stdout)
		for _, j := range judged {
			if err := enc.Encode(gcLine{j, removed[keyOf(j.Found)]}); err != nil {
				return err
			}
		}
		return nil
	}
	if len(judged) == 0 {
		return nil
	}
	t := tabwriter.NewWriter(d.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CLOUD\tWHERE\tKIND\tID\tRUN\tSTATUS\tAGE\t$/H\tWHAT HAPPENS")
	hourly, going := 0.0, 0
	for _, j := range judged {
		what := "stays: "
		switch {
		case removed[keyOf(j.Found)]:
			what = "removed: "
		case j.Remove && dryRun:
			what = "would go: "
		case j.Remove:
			what = "NOT REMOVED: "
		}
		if j.Remove {
			going++
			hourly += j.PricePerHour
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", j.Cloud, cmp.Or(j.Zone, j.Region), j.Kind, ui.Clean(cmp.Or(j.Name, j.ID)),
			cmp.Or(ui.Clean(j.Run), "-"), cmp.Or(string(j.Status), "-"), age(d.Now(), j.CreatedAt), ui.Dollars(j.PricePerHour), what+ui.Clean(j.Reason))
	}
	t.Flush()
	if dryRun && going > 0 {
		fmt.Fprintf(d.Stdout, "%d of %d would go, %s/h; remove them with: levin gc --dry-run=false\n", going, len(judged), ui.Dollars(hourly))
	}
	return nil
}

// age gives how long ago something was made.
func age(now, made time.Time) string {
	if made.IsZero() {
		return "-"
	}
	return ui.Duration(now.Sub(made).Seconds())
}
