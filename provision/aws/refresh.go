package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/pricing"
	pricingtypes "github.com/aws/aws-sdk-go-v2/service/pricing/types"

	"github.com/levinrun/levin/provision/catalog"
)

// Refresh reads types, zones and prices of the configured regions (else of all in
// the catalog) from AWS and writes them to the cache. Regions that are not read
// keep the rows they have. Nothing is written unless every region could be read.
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
	names, err := c.searched(ctx)
	if err != nil {
		return err
	}
	s, err := c.connect(ctx)
	if err != nil {
		return err
	}
	prices := pricing.NewFromConfig(s.config, func(o *pricing.Options) { o.Region = homeRegion })
	var mu sync.Mutex // of progress
	perRegion := make([][]catalog.Row, len(names))
	err = c.inEach(ctx, names, func(n int, r *region) error {
		rows, err := r.rows(ctx, prices)
		if err != nil {
			return err
		}
		perRegion[n] = rows
		mu.Lock()
		defer mu.Unlock()
		progress(fmt.Sprintf("%s: %d machine types", r.name, len(rows)))
		return nil
	})
	if err != nil {
		return err
	}
	old, err := c.loadCatalog()
	if err != nil {
		progress("the offers that were cached cannot be read and are replaced: " + err.Error())
		if old, err = catalog.Embedded(kind); err != nil {
			return err
		}
	}
	fresh := &catalog.Catalog{Kind: kind, AsOf: time.Now().UTC(), Rows: slices.Concat(perRegion...)}
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

// rows reads what one region sells.
func (r *region) rows(ctx context.Context, prices *pricing.Client) ([]catalog.Row, error) {
	rows, err := r.types(ctx)
	if err != nil {
		return nil, fmt.Errorf("machine types: %w", err)
	}
	zones, err := r.zones(ctx)
	if err != nil {
		return nil, fmt.Errorf("zones of machine types: %w", err)
	}
	onDemand, err := onDemandPrices(ctx, prices, r.name)
	if err != nil {
		return nil, fmt.Errorf("prices: %w", err)
	}
	spot, err := r.spotPrices(ctx)
	if err != nil {
		return nil, fmt.Errorf("spot prices: %w", err)
	}
	var sold []catalog.Row
	for _, row := range rows {
		row.Zones, row.Price, row.SpotPrice = zones[row.Type], onDemand[row.Type], spot[row.Type]
		if len(row.Zones) > 0 && (row.Price > 0 || row.SpotPrice > 0) {
			sold = append(sold, row)
		}
	}
	return sold, nil
}

// types reads the machine types of a region that Levin can use: virtual machines
// with Linux on amd64 or arm64, with NVIDIA GPUs or with no accelerator.
func (r *region) types(ctx context.Context) ([]catalog.Row, error) {
	var rows []catalog.Row
	pages := ec2.NewDescribeInstanceTypesPaginator(r.ec2, &ec2.DescribeInstanceTypesInput{
		MaxResults: awssdk.Int32(100),
		Filters:    []types.Filter{filter("bare-metal", "false"), filter("supported-virtualization-type", "hvm")},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, t := range page.InstanceTypes {
			if row, ok := rowOf(t, r.name); ok {
				rows = append(rows, row)
			}
		}
	}
	return rows, nil
}

// rowOf describes a machine type; the bool is false for one that is of no use.
func rowOf(t types.InstanceTypeInfo, region string) (catalog.Row, bool) {
	row := catalog.Row{Type: string(t.InstanceType), Region: region, Arch: archOf(t.ProcessorInfo)}
	if t.VCpuInfo == nil || t.MemoryInfo == nil || row.Arch == "" {
		return row, false
	}
	if t.FpgaInfo != nil || t.InferenceAcceleratorInfo != nil || t.NeuronInfo != nil || t.MediaAcceleratorInfo != nil {
		return row, false
	}
	row.CPUs = float64(awssdk.ToInt32(t.VCpuInfo.DefaultVCpus))
	row.Memory = gib(awssdk.ToInt64(t.MemoryInfo.SizeInMiB))
	if t.GpuInfo == nil {
		return row, true
	}
	if len(t.GpuInfo.Gpus) != 1 {
		return row, false
	}
	gpu := t.GpuInfo.Gpus[0]
	count := awssdk.ToInt32(gpu.Count)
	if awssdk.ToString(gpu.Manufacturer) != "NVIDIA" || count < 1 || gpu.MemoryInfo == nil {
		return row, false // a part of a GPU counts as none
	}
	row.GPUs = int(count)
	row.GPUMemory = catalog.GPUMemory(gib(int64(awssdk.ToInt32(gpu.MemoryInfo.SizeInMiB))))
	row.GPU = catalog.GPUModel(strings.ToUpper(strings.ReplaceAll(awssdk.ToString(gpu.Name), " ", "-")), row.GPUMemory)
	return row, true
}

func archOf(p *types.ProcessorInfo) string {
	if p == nil {
		return ""
	}
	switch {
	case slices.Contains(p.SupportedArchitectures, types.ArchitectureTypeX8664):
		return "amd64"
	case slices.Contains(p.SupportedArchitectures, types.ArchitectureTypeArm64):
		return "arm64"
	}
	return ""
}

func gib(mib int64) float64 { return math.Round(float64(mib)/1024*100) / 100 }

// zones reads in which zones, by their ids, each type is offered.
func (r *region) zones(ctx context.Context) (map[string][]string, error) {
	zones := map[string][]string{}
	pages := ec2.NewDescribeInstanceTypeOfferingsPaginator(r.ec2, &ec2.DescribeInstanceTypeOfferingsInput{LocationType: types.LocationTypeAvailabilityZoneId})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, o := range page.InstanceTypeOfferings {
			zones[string(o.InstanceType)] = append(zones[string(o.InstanceType)], awssdk.ToString(o.Location))
		}
	}
	for _, of := range zones {
		slices.Sort(of)
	}
	return zones, nil
}

// onDemandPrices reads the prices of Linux on shared hardware, in USD per hour.
func onDemandPrices(ctx context.Context, client *pricing.Client, region string) (map[string]float64, error) {
	is := func(field, value string) pricingtypes.Filter {
		return pricingtypes.Filter{Type: pricingtypes.FilterTypeTermMatch, Field: awssdk.String(field), Value: awssdk.String(value)}
	}
	prices := map[string]float64{}
	pages := pricing.NewGetProductsPaginator(client, &pricing.GetProductsInput{
		ServiceCode: awssdk.String("AmazonEC2"),
		Filters: []pricingtypes.Filter{
			is("regionCode", region), is("operatingSystem", "Linux"), is("preInstalledSw", "NA"),
			is("tenancy", "Shared"), is("capacitystatus", "Used"), is("marketoption", "OnDemand"),
		},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, product := range page.PriceList {
			typ, price, err := priceOf([]byte(product))
			if err != nil {
				return nil, err
			}
			if typ != "" && price > 0 {
				prices[typ] = price
			}
		}
	}
	return prices, nil
}

// priceOf reads one product of the price list: its type and its price on demand;
// zero values for a product that is no machine by the hour.
func priceOf(product []byte) (typ string, price float64, err error) {
	var p struct {
		Product struct {
			Attributes struct {
				InstanceType string `json:"instanceType"`
			} `json:"attributes"`
		} `json:"product"`
		Terms struct {
			OnDemand map[string]struct {
				PriceDimensions map[string]struct {
					Unit         string            `json:"unit"`
					PricePerUnit map[string]string `json:"pricePerUnit"`
				} `json:"priceDimensions"`
			} `json:"OnDemand"`
		} `json:"terms"`
	}
	if err := json.Unmarshal(product, &p); err != nil {
		return "", 0, fmt.Errorf("reading a product of the price list: %w", err)
	}
	for _, term := range p.Terms.OnDemand {
		for _, d := range term.PriceDimensions {
			if d.Unit != "Hrs" || d.PricePerUnit["USD"] == "" {
				continue
			}
			usd, err := strconv.ParseFloat(d.PricePerUnit["USD"], 64)
			if err != nil || usd < 0 || math.IsInf(usd, 0) || math.IsNaN(usd) {
				return "", 0, fmt.Errorf("the price list gives %s the price %q", p.Product.Attributes.InstanceType, d.PricePerUnit["USD"])
			}
			if price == 0 || usd > 0 && usd < price {
				price = usd
			}
		}
	}
	return p.Product.Attributes.InstanceType, price, nil
}

// spotPrices reads the spot prices of the moment: for each type the lowest of its
// zones.
func (r *region) spotPrices(ctx context.Context) (map[string]float64, error) {
	prices := map[string]float64{}
	now := time.Now()
	pages := ec2.NewDescribeSpotPriceHistoryPaginator(r.ec2, &ec2.DescribeSpotPriceHistoryInput{
		StartTime: awssdk.Time(now), EndTime: awssdk.Time(now), // what counts at that moment
		ProductDescriptions: []string{"Linux/UNIX"},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, p := range page.SpotPriceHistory {
			usd, err := strconv.ParseFloat(awssdk.ToString(p.SpotPrice), 64)
			if err != nil || !(usd > 0) || math.IsInf(usd, 0) {
				continue // not for sale
			}
			if old := prices[string(p.InstanceType)]; old == 0 || usd < old {
				prices[string(p.InstanceType)] = usd
			}
		}
	}
	return prices, nil
}
