package gcp

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/compute/apiv1/computepb"

	"github.com/levinrun/levin/provision/catalog"
)

// Refresh reads types, zones and prices of the configured regions (else of all in
// the catalog) from Google and writes them to the cache. Regions that are not read
// keep the rows they have. Nothing is written unless everything could be read.
func (c *Cloud) Refresh(ctx context.Context, progress func(line string)) error {
	if err := c.refresh(ctx, progress); err != nil {
		return c.failure("could not refresh the offers of "+c.cfg.Name, err)
	}
	return nil
}

func (c *Cloud) refresh(ctx context.Context, progress func(line string)) error {
	if c.cfg.CacheDir == "" {
		return errors.New("there is no cache folder to keep offers in")
	}
	old, err := c.loadCatalog()
	if err != nil {
		progress("the offers that were cached cannot be read and are replaced: " + err.Error())
		if old, err = catalog.Embedded(kind); err != nil {
			return err
		}
	}
	names := c.cfg.Settings.Regions
	if len(names) == 0 {
		names = old.Regions()
	}
	s, err := c.connect()
	if err != nil {
		return err
	}
	project, err := c.project()
	if err != nil {
		return err
	}
	prices, err := c.prices(ctx, s)
	if err != nil {
		return fmt.Errorf("prices: %w", err)
	}
	progress(fmt.Sprintf("%d prices", len(prices)))
	rows, err := c.rows(ctx, s, project, names, prices)
	if err != nil {
		return err
	}
	for _, name := range names {
		n := 0
		for _, row := range rows {
			if row.Region == name {
				n++
			}
		}
		progress(fmt.Sprintf("%s: %d machine types", name, n))
	}
	fresh := &catalog.Catalog{Kind: kind, AsOf: time.Now().UTC(), Rows: rows}
	kept := map[string]bool{}
	for _, row := range old.Rows {
		if !slices.Contains(names, row.Region) {
			fresh.Rows, kept[row.Region] = append(fresh.Rows, row), true
		}
	}
	if len(kept) > 0 {
		progress(fmt.Sprintf("%d other regions keep what they had: %s", len(kept), old.Age(time.Now())))
	}
	catalog.SortRows(fresh.Rows)
	if err := fresh.Save(c.cfg.CacheDir); err != nil {
		return err
	}
	c.mu.Lock()
	c.catalog, c.list = fresh, nil
	c.mu.Unlock()
	return nil
}

// rows reads what the regions sell and prices it.
func (c *Cloud) rows(ctx context.Context, s *sdk, project string, regions []string, prices priceList) ([]catalog.Row, error) {
	attached, err := c.attachedGPUs(ctx, s, project)
	if err != nil {
		return nil, fmt.Errorf("accelerator types: %w", err)
	}
	pages, err := collect(s.machineTypes.AggregatedList(ctx, &computepb.AggregatedListMachineTypesRequest{Project: project}, c.options()...).Next)
	if err != nil {
		return nil, fmt.Errorf("machine types: %w", err)
	}
	rows := map[string]*catalog.Row{} // by type, GPUs and region
	for _, p := range pages {
		zone := strings.TrimPrefix(p.Key, "zones/")
		if !slices.Contains(regions, regionOf(zone)) {
			continue
		}
		if err := unread(p.Key, p.Value.GetWarning()); err != nil {
			return nil, err
		}
		for _, t := range p.Value.GetMachineTypes() {
			for _, row := range rowsOf(t, regionOf(zone), attached[zone]) {
				key := fmt.Sprint(row.Type, row.GPU, row.GPUs, row.Region)
				if rows[key] == nil {
					rows[key] = &row
				}
				rows[key].Zones = append(rows[key].Zones, zone)
			}
		}
	}
	var sold []catalog.Row
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		row := rows[key]
		slices.Sort(row.Zones)
		row.Price, row.SpotPrice = prices.of(*row, false), prices.of(*row, true)
		if row.Price > 0 || row.SpotPrice > 0 {
			sold = append(sold, *row)
		}
	}
	return sold, nil
}

// attachedGPUs reads which GPUs there are in each zone.
func (c *Cloud) attachedGPUs(ctx context.Context, s *sdk, project string) (map[string][]gpu, error) {
	pages, err := collect(s.accelerators.AggregatedList(ctx, &computepb.AggregatedListAcceleratorTypesRequest{Project: project}, c.options()...).Next)
	if err != nil {
		return nil, err
	}
	zones := map[string][]gpu{}
	for _, p := range pages {
		for _, a := range p.Value.GetAcceleratorTypes() {
			if g, ok := gpuOf(a.GetName()); ok {
				zone := strings.TrimPrefix(p.Key, "zones/")
				zones[zone] = append(zones[zone], g)
			}
		}
	}
	return zones, nil
}

// rowsOf describes a machine type: as it is, and, where GPUs can be attached, with
// each number of each GPU of its zone. Types that share a core, that come with
// local SSDs, or with several kinds of GPUs are left out: their prices are made in
// ways that this does not know.
func rowsOf(t *computepb.MachineType, region string, inZone []gpu) []catalog.Row {
	if t.GetIsSharedCpu() || t.GetBundledLocalSsds().GetPartitionCount() > 0 || t.GetDeprecated().GetState() != "" || len(t.GetAccelerators()) > 1 {
		return nil
	}
	row := catalog.Row{
		Type: t.GetName(), Arch: "amd64", Region: region,
		CPUs: float64(t.GetGuestCpus()), Memory: math.Round(float64(t.GetMemoryMb())/1024*100) / 100,
	}
	if t.GetArchitecture() == "ARM64" {
		row.Arch = "arm64"
	}
	for _, a := range t.GetAccelerators() {
		g, ok := gpuOf(a.GetGuestAcceleratorType())
		if !ok {
			return nil
		}
		row.GPU, row.GPUs, row.GPUMemory = g.model, int(a.GetGuestAcceleratorCount()), g.memory
	}
	rows := []catalog.Row{row}
	if attaches(row.Type) && row.GPU == "" {
		for _, g := range inZone {
			for _, count := range attachable(g, row.CPUs) {
				with := row
				with.GPU, with.GPUs, with.GPUMemory = g.model, count, g.memory
				rows = append(rows, with)
			}
		}
	}
	return rows
}

// part is what a price is for: a core, a GiB of memory, or a GPU, in a region.
type part struct {
	what   string // "n2 core", "n2 ram", "gpu t4"
	region string
	spot   bool
}

// priceList are USD per hour of each part.
type priceList map[part]float64

// of gives the price of a machine, 0 when one of its parts has none.
func (l priceList) of(row catalog.Row, spot bool) float64 {
	family, _, _ := strings.Cut(row.Type, "-")
	core, ram := l[part{family + " core", row.Region, spot}], l[part{family + " ram", row.Region, spot}]
	if core == 0 || ram == 0 {
		return 0
	}
	price := row.CPUs*core + row.Memory*ram
	if row.GPU != "" {
		each := 0.0
		for _, g := range gpus() {
			if usd := l[part{"gpu " + g.sku, row.Region, spot}]; g.model == row.GPU && usd > 0 {
				each = usd
				break
			}
		}
		if each == 0 {
			return 0
		}
		price += float64(row.GPUs) * each
	}
	return math.Round(price*1e6) / 1e6
}

// computeService is the id of Compute Engine in Cloud Billing.
const computeService = "6F81-5844-456A"

// sku is one line of Cloud Billing's price list.
type sku struct {
	Description string
	Category    struct{ UsageType string }
	Regions     []string `json:"serviceRegions"`
	PricingInfo []struct {
		PricingExpression struct {
			UsageUnit   string
			TieredRates []struct {
				UnitPrice struct {
					CurrencyCode string
					Units        string
					Nanos        int64
				}
			}
		}
	}
}

// prices reads the price list of Compute Engine.
func (c *Cloud) prices(ctx context.Context, s *sdk) (priceList, error) {
	list := priceList{}
	page := ""
	for {
		var out struct {
			SKUs          []sku
			NextPageToken string
		}
		query := url.Values{"currencyCode": {"USD"}, "pageSize": {"5000"}}
		if page != "" {
			query.Set("pageToken", page)
		}
		if err := c.ask(ctx, s, "GET", s.billing+"/v1/services/"+computeService+"/skus?"+query.Encode(), nil, &out); err != nil {
			return nil, err
		}
		for _, k := range out.SKUs {
			if err := list.add(k); err != nil {
				return nil, err
			}
		}
		if page = out.NextPageToken; page == "" {
			return list, nil
		}
	}
}

// How the price list calls the parts of machines. Whatever else it sells (custom
// types, sole tenancy, commitments, reservations) is called otherwise.
var (
	coreOrRAM = regexp.MustCompile(`^(spot preemptible )?([a-z0-9]+)( predefined| amd| arm)? instance (core|ram) running in `)
	optimized = regexp.MustCompile(`^(spot preemptible )?compute optimized (core|ram) running in `)
	wholeGPU  = regexp.MustCompile(`^nvidia (?:tesla )?(.+?) gpu (attached to spot preemptible vms )?running in `)
)

// partOf reads what a line of the price list is for; the bool is false for what is
// no part of a machine that Levin makes.
func partOf(description string) (part, bool) {
	text := strings.ToLower(description)
	if m := coreOrRAM.FindStringSubmatch(text); m != nil {
		return part{what: m[2] + " " + m[4], spot: m[1] != ""}, true
	}
	if m := optimized.FindStringSubmatch(text); m != nil {
		return part{what: "c2 " + m[2], spot: m[1] != ""}, true
	}
	if m := wholeGPU.FindStringSubmatch(text); m != nil {
		return part{what: "gpu " + m[1], spot: m[2] != ""}, true
	}
	return part{}, false
}

func (l priceList) add(k sku) error {
	of, ok := partOf(k.Description)
	if !ok || k.Category.UsageType != "OnDemand" && k.Category.UsageType != "Preemptible" || (k.Category.UsageType == "Preemptible") != of.spot {
		return nil
	}
	if len(k.PricingInfo) == 0 {
		return nil
	}
	e := k.PricingInfo[0].PricingExpression
	if e.UsageUnit != "h" && e.UsageUnit != "GiBy.h" || len(e.TieredRates) == 0 {
		return nil
	}
	rate := e.TieredRates[len(e.TieredRates)-1].UnitPrice // beyond what is free
	units, err := strconv.ParseInt(rate.Units, 10, 64)
	if err != nil || units < 0 || rate.Nanos < 0 || rate.CurrencyCode != "USD" {
		return fmt.Errorf("the price list gives %q the price %q and %d nanos %s", k.Description, rate.Units, rate.Nanos, rate.CurrencyCode)
	}
	for _, region := range k.Regions {
		of.region = region
		l[of] = float64(units) + float64(rate.Nanos)/1e9
	}
	return nil
}
