package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/internal/ui"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/catalog"
)

type offersOptions struct {
	Cloud string
	Limit int
	Spot  bool
	Texts map[string]*string   // by key of `resources`
	Lists map[string]*[]string // the same, of keys that take several
}

func newOffers(d *deps) *cobra.Command {
	o := offersOptions{Texts: map[string]*string{}, Lists: map[string]*[]string{}}
	cmd := &cobra.Command{
		Use:   "offers",
		Short: "List what the clouds sell that fits, cheapest first; create nothing",
		Long: `List what the clouds sell that fits, cheapest first, from the catalog that is built in or
the one that the last ` + "`levin offers refresh`" + ` has made. What is asked for is written as under
` + "`resources`" + ` in an app file: --gpu A100:8, --memory 64GB.., --cpus 4..16.`,
		Args: checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			if d.json && !cmd.Flags().Changed("limit") {
				o.Limit = 0 // a program that gets a part does not know it
			}
			return d.offers(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Cloud, "cloud", "", "only these clouds, names with commas (default: aws, gcp, and modules of your own)")
	f.IntVar(&o.Limit, "limit", 20, "at most so many lines; 0 is all (with --json: all)")
	f.BoolVar(&o.Spot, "spot", false, "what may be taken back, at its lower price, instead of what may not")
	for key, about := range map[string]string{
		"gpu": "MODEL[:COUNT], or memory of each such as 24GB..", "cpus": "virtual CPUs: N, N.., N..M", "memory": "such as 16GB..", "arch": "amd64 or arm64",
		"machine": "an exact machine type", "max_price": "USD per hour",
	} {
		o.Texts[key] = f.String(strings.ReplaceAll(key, "_", "-"), "", about)
	}
	for key, about := range map[string]string{"region": "only these regions", "zone": "only these zones"} {
		o.Lists[key] = f.StringSlice(key, nil, about)
	}
	cmd.AddCommand(newOffersRefresh(d))
	return cmd
}

// ask turns the flags into resources, by the rules of the app file.
func (o offersOptions) ask() (configs.Resources, error) {
	asked := map[string][]string{}
	for key, text := range o.Texts {
		asked[key] = []string{*text}
	}
	for key, texts := range o.Lists {
		asked[key] = *texts
	}
	if o.Spot {
		asked["spot"] = []string{string(configs.SpotOnly)}
	}
	return configs.ParseResources(asked)
}

func (d *deps) offers(ctx context.Context, o offersOptions) error {
	resources, err := o.ask()
	if err != nil {
		return err
	}
	return d.withSellers(o.Cloud, func(s configs.Settings, clouds []provision.Cloud) error {
		var all []provision.Offer
		for _, cloud := range clouds {
			for _, alternative := range provision.Alternatives(resources) {
				offers, err := cloud.Offers(ctx, alternative)
				if err != nil {
					return err
				}
				all = append(all, offers...)
			}
		}
		if len(all) == 0 {
			why, err := provision.Nearest(ctx, resources, clouds)
			if err != nil {
				return err
			}
			return &cluster.Failure{Kind: cluster.Provisioning, What: "nothing that is known fits: " + why, Next: "ask for less; `levin offers --limit 0` lists everything"}
		}
		provision.SortOffers(all)
		return d.printOffers(s, clouds, all, o.Limit)
	})
}

// withSellers makes the clouds that are looked at: those named, else all that sell
// machines, which this computer and own hosts do not.
func (d *deps) withSellers(cloud string, do func(configs.Settings, []provision.Cloud) error) error {
	settings, err := d.settings(nil)
	if err != nil {
		return err
	}
	names := splitClouds(cloud)
	if len(names) == 0 {
		for name, c := range settings.Clouds {
			if c.Module != "local" && c.Module != "ssh" {
				names = append(names, name)
			}
		}
		slices.Sort(names)
	}
	logger, closeLog, err := d.logger()
	if err != nil {
		return err
	}
	defer closeLog()
	clouds, closeClouds, err := d.newClouds(settings, names, cluster.NewJournal(memory.New()), logger)
	if err != nil {
		return err
	}
	defer closeClouds()
	return do(settings, clouds)
}

func hasCatalog(c configs.CloudSettings) bool { return c.Module == "aws" || c.Module == "gcp" }

// soldOffer is one line of `levin offers --json`.
type soldOffer struct {
	provision.Offer
	PricesAsOf string `json:"prices_as_of,omitempty"` // a day, or a year when no more is known
}

// offerLine is offers that differ in nothing but their zone.
type offerLine struct {
	provision.Offer
	zones int
}

func (d *deps) printOffers(s configs.Settings, clouds []provision.Cloud, all []provision.Offer, limit int) error {
	catalogs, err := d.catalogs(s, clouds)
	if err != nil {
		return err
	}
	if d.json {
		enc := json.NewEncoder(d.Stdout)
		for i, o := range all {
			if limit > 0 && i == limit {
				break
			}
			line := soldOffer{Offer: o}
			if c := catalogs[o.Cloud]; c != nil {
				line.PricesAsOf = c.Date()
			}
			if err := enc.Encode(line); err != nil {
				return err
			}
		}
		return nil
	}
	lines := byRegion(all)
	t := tabwriter.NewWriter(d.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CLOUD\tREGION\tZONES\tTYPE\tCPUS\tMEMORY\tGPU\tGPU MEMORY\tARCH\t$/H")
	for i, l := range lines {
		if limit > 0 && i == limit {
			break
		}
		gpu, spot := "-", ""
		if l.GPUs > 0 {
			gpu = fmt.Sprintf("%s x%d", l.GPU, l.GPUs)
		}
		if l.Spot {
			spot = " spot"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s%s\n", l.Cloud, cmp.Or(l.Region, "-"), amount(float64(l.zones), ""), l.Type,
			amount(l.CPUs, ""), amount(l.Memory, " GiB"), gpu, amount(l.GPUMemory, " GiB"), l.Arch, ui.Dollars(l.PricePerHour), spot)
	}
	t.Flush()
	if limit > 0 && len(lines) > limit {
		fmt.Fprintf(d.Stdout, "and %d more; --limit 0 lists all\n", len(lines)-limit)
	}
	for _, cloud := range clouds {
		if c := catalogs[cloud.Name()]; c != nil {
			fmt.Fprintf(d.Stdout, "%s: %s; `levin offers refresh --cloud %s` reads them anew\n", cloud.Name(), c.Age(d.Now()), cloud.Name())
		}
	}
	return nil
}

// catalogs gives those that the clouds' prices are from, by the cloud's name.
func (d *deps) catalogs(s configs.Settings, clouds []provision.Cloud) (map[string]*catalog.Catalog, error) {
	all := map[string]*catalog.Catalog{}
	for _, cloud := range clouds {
		settings := s.Clouds[cloud.Name()]
		if !hasCatalog(settings) {
			continue
		}
		c, err := catalog.Load(settings.Module, d.catalogDir(s))
		if err != nil {
			return nil, err
		}
		all[cloud.Name()] = c
	}
	return all, nil
}

// byRegion puts the zones of a region together; the order stays.
func byRegion(offers []provision.Offer) []offerLine {
	var lines []offerLine
	at := map[string]int{}
	for _, o := range offers {
		key := fmt.Sprint(o.Cloud, "/", o.Region, "/", o.Type, "/", o.GPU, "/", o.GPUs, "/", o.Spot, "/", o.PricePerHour)
		i, seen := at[key]
		if !seen {
			i = len(lines)
			at[key] = i
			lines = append(lines, offerLine{Offer: o})
		}
		if o.Zone != "" {
			lines[i].zones++
		}
	}
	return lines
}

func newOffersRefresh(d *deps) *cobra.Command {
	var cloud string
	cmd := &cobra.Command{
		Use:   "refresh",
		Short: "Read types, zones and prices anew from the clouds, for the regions of the settings",
		Args:  checked(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, args []string) error {
			return d.refreshOffers(cmd.Context(), cloud)
		},
	}
	cmd.Flags().StringVar(&cloud, "cloud", "", "only these clouds, names with commas (default: all that sell machines and are set up)")
	return cmd
}

// refreshed is one line of `levin offers refresh --json`.
type refreshed struct {
	Cloud string `json:"cloud"`
	Text  string `json:"text"`
}

func (d *deps) refreshOffers(ctx context.Context, cloud string) error {
	return d.withSellers(cloud, func(_ configs.Settings, clouds []provision.Cloud) error {
		asked := 0
		var failed []error // one cloud that cannot be asked keeps no other from it
		for _, c := range clouds {
			refresher, ok := c.(provision.Refresher)
			if !ok {
				continue
			}
			asked++
			say := func(line string) {
				if d.json {
					json.NewEncoder(d.Stdout).Encode(refreshed{c.Name(), line})
					return
				}
				fmt.Fprintf(d.Stdout, "%s: %s\n", c.Name(), ui.Clean(line))
			}
			if err := refresher.Refresh(ctx, say); err != nil {
				failed = append(failed, err)
			}
		}
		if asked == 0 {
			return usagef("none of these clouds has a price list to read")
		}
		return errors.Join(failed...)
	})
}
