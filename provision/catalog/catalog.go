// Package catalog knows what machines clouds sell: types, regions, zones and
// prices, as of a day. A catalog is built into Levin; `levin offers refresh` makes
// a newer one for the user's account, which is kept in a cache.
package catalog

import (
	"io"
	"time"

	"github.com/levinrun/levin/configs"
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
	GPUMemory float64 // GiB of each
	Region    string
	Zones     []string // sorted; empty: not known, the module chooses
	Price     float64  // USD per hour; 0: not sold on demand
	SpotPrice float64  // USD per hour; 0: not sold as spot, or not known
}

// Catalog is what one kind of cloud ("aws", "gcp") sells.
type Catalog struct {
	Kind string
	AsOf time.Time // the day of the prices
	Rows []Row     // sorted by type, region, GPU
}

// Embedded gives the catalog that is built in.
func Embedded(kind string) (*Catalog, error) { panic("not written") }

// Load gives the newer one of the catalog that is built in and the one in the
// cache folder dir (<dir>/<kind>.csv), which is made by Save. A file that cannot be
// read is an error that says to refresh or remove it.
func Load(kind, dir string) (*Catalog, error) { panic("not written") }

// Save writes the catalog to the cache folder dir, whole or not at all.
func (c *Catalog) Save(dir string) error { panic("not written") }

// Read reads a catalog in its own CSV form; Write writes it.
func Read(r io.Reader) (*Catalog, error) { panic("not written") }

// Write writes the catalog in its own CSV form.
func (c *Catalog) Write(w io.Writer) error { panic("not written") }

// Offers gives what satisfies r (one alternative) as offers of the cloud called
// name, cheapest first: one for each type, zone and way to buy (on demand, spot).
// regions narrows them; nil is every region.
func (c *Catalog) Offers(name string, regions []string, r configs.Resources) []provision.Offer {
	panic("not written")
}

// Price gives the hourly price of a type in a region, for what is found by tag.
func (c *Catalog) Price(typ, region string, spot bool) (float64, bool) { panic("not written") }

// Regions lists the regions that have rows, sorted.
func (c *Catalog) Regions() []string { panic("not written") }
