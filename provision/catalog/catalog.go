// Package catalog knows what machines clouds sell: types, regions, zones and
// prices, as of a day. A catalog is built into Levin; `levin offers refresh` makes
// a newer one for the user's account, which is kept in a cache.
//
// The prices that are built in were read in 2026 from the public price lists of
// the clouds; spot prices are the least certain. What is not listed is not known
// here, which does not mean that the cloud does not sell it.
package catalog

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision"
)

// Row is one machine type in one region.
type Row struct {
	Type      string
	Arch      string // amd64 or arm64
	CPUs      float64
	Memory    float64 // GiB
	GPU       string  // model as configs writes it, upper case: "T4", "A100-80GB"; "" without
	GPUs      int
	GPUMemory float64 // GiB of each, as people name it; see GPUMemory
	Region    string
	Zones     []string // sorted; empty: not known, the module chooses
	Price     float64  // USD per hour; 0: not sold on demand
	SpotPrice float64  // USD per hour; 0: not sold as spot, or not known
}

// Catalog is what one kind of cloud ("aws", "gcp") sells. Its methods are safe
// for concurrent use as long as nobody changes its fields.
type Catalog struct {
	Kind string
	AsOf time.Time // the day of the prices
	// YearOnly says that no more than the year of the prices is known: AsOf is its
	// first day, so that they are never taken for newer than they are.
	YearOnly bool
	Rows     []Row // sorted by type, region, GPU

	mu     sync.Mutex
	offers map[string][]provision.Offer // by the name of the cloud; made when first asked for
}

//go:embed aws.csv gcp.csv
var embedded embed.FS

// Embedded gives the catalog that is built in.
func Embedded(kind string) (*Catalog, error) {
	data, err := embedded.ReadFile(kind + ".csv")
	if err != nil {
		return nil, fmt.Errorf("no catalog of a cloud of kind %q is built in", kind)
	}
	return Read(bytes.NewReader(data))
}

// Load gives the newer one of the catalog that is built in and the one in the
// cache folder dir (<dir>/<kind>.csv), which is made by Save. A file that cannot be
// read is an error that says to refresh or remove it. Without dir there is no
// cache.
func Load(kind, dir string) (*Catalog, error) {
	builtIn, err := Embedded(kind)
	if err != nil || dir == "" {
		return builtIn, err
	}
	file := filepath.Join(dir, kind+".csv")
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return builtIn, nil
	}
	if err != nil {
		return nil, unreadable(kind, file, err)
	}
	defer f.Close()
	cached, err := Read(f)
	if err == nil && cached.Kind != kind {
		err = fmt.Errorf("it is a catalog of %s", cached.Kind)
	}
	if err != nil {
		return nil, unreadable(kind, file, err)
	}
	if builtIn.AsOf.After(cached.AsOf) {
		return builtIn, nil
	}
	return cached, nil
}

func unreadable(kind, file string, err error) error {
	return &cluster.Failure{
		Kind: cluster.BadInput, What: fmt.Sprintf("could not read the catalog of %s in %s", kind, file), Err: err,
		Next: fmt.Sprintf("make it anew with `levin offers refresh --cloud %s`, or remove the file", kind),
	}
}

// Save writes the catalog to the cache folder dir, whole or not at all.
func (c *Catalog) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("saving the catalog of %s: %w", c.Kind, err)
	}
	f, err := os.CreateTemp(dir, c.Kind+"-*.tmp")
	if err != nil {
		return fmt.Errorf("saving the catalog of %s: %w", c.Kind, err)
	}
	defer os.Remove(f.Name()) // in vain once it has been renamed
	err = cmp.Or(c.Write(f), f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, c.Kind+".csv"))
	}
	if err != nil {
		return fmt.Errorf("saving the catalog of %s: %w", c.Kind, err)
	}
	return nil
}

// Days gives how many days old the prices are at most.
func (c *Catalog) Days(now time.Time) int {
	return max(0, int(now.Sub(c.AsOf)/(24*time.Hour)))
}

// Age tells people how old the prices are: "prices as of 2026-05-31, 143 days
// old".
func (c *Catalog) Age(now time.Time) string {
	days := fmt.Sprintf("%d days", c.Days(now))
	switch {
	case c.YearOnly:
		return fmt.Sprintf("prices as of %s (day not known), at most %s old", c.Date(), days)
	case c.Days(now) == 0:
		return fmt.Sprintf("prices as of %s, today", c.Date())
	case c.Days(now) == 1:
		days = "1 day"
	}
	return fmt.Sprintf("prices as of %s, %s old", c.Date(), days)
}

// Regions lists the regions that have rows, sorted.
func (c *Catalog) Regions() []string {
	seen := map[string]bool{}
	var regions []string
	for i := range c.Rows {
		if r := c.Rows[i].Region; !seen[r] {
			seen[r] = true
			regions = append(regions, r)
		}
	}
	slices.Sort(regions)
	return regions
}

// Price gives the hourly price of a type in a region, for what is found by tag.
// The bool is false for what the catalog does not have. A type that is sold with
// and without GPUs attached (n1 of GCP) is taken for the cheaper one.
func (c *Catalog) Price(typ, region string, spot bool) (float64, bool) {
	price := 0.0
	for i := range c.Rows {
		row := &c.Rows[i]
		if row.Type != typ || row.Region != region {
			continue
		}
		p := row.Price
		if spot {
			p = row.SpotPrice
		}
		if p > 0 && (price == 0 || p < price) {
			price = p
		}
	}
	return price, price > 0
}

// SortRows puts rows in the order of a catalog.
func SortRows(rows []Row) { slices.SortFunc(rows, compareRows) }

func compareRows(a, b Row) int {
	return cmp.Or(
		cmp.Compare(a.Type, b.Type),
		cmp.Compare(a.Region, b.Region),
		cmp.Compare(a.GPU, b.GPU),
		cmp.Compare(a.GPUs, b.GPUs),
	)
}
