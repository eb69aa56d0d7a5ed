package emulator

import (
	"fmt"
	"math"
	"net/http"
	"strings"
)

// computeService is the id of Compute Engine in Cloud Billing.
const computeService = "6F81-5844-456A"

// gcpPrice is a price of Compute Engine: of one core, GiB or GPU for an hour, or of
// a GiB of local SSD for a month.
type gcpPrice struct {
	description string // with "in Americas", or another part of the world, after it
	group       string
	unit        string
	usd         float64
}

// gcpPrices are the list prices of the Americas, on demand; spot costs 30 % here.
func gcpPrices() []gcpPrice {
	const core, ram = "h", "GiBy.h"
	return []gcpPrice{
		{"N1 Predefined Instance Core running", "N1Standard", core, 0.031611},
		{"N1 Predefined Instance Ram running", "N1Standard", ram, 0.004237},
		{"E2 Instance Core running", "CPU", core, 0.02181159},
		{"E2 Instance Ram running", "RAM", ram, 0.00292353},
		{"N2 Instance Core running", "CPU", core, 0.031611},
		{"N2 Instance Ram running", "RAM", ram, 0.004237},
		{"N2 Custom Instance Core running", "CPU", core, 0.033191},
		{"N2 Custom Extended Instance Ram running", "RAM", ram, 0.009550},
		{"N2 Sole Tenancy Instance Core running", "CPU", core, 0.0031611},
		{"N2D AMD Instance Core running", "CPU", core, 0.027502},
		{"T2D AMD Instance Core running", "CPU", core, 0.027502},
		{"T2D AMD Instance Ram running", "RAM", ram, 0.003686},
		{"C4A Arm Instance Core running", "CPU", core, 0.03086},
		{"C4A Arm Instance Ram running", "RAM", ram, 0.00351},
		{"A2 Instance Core running", "CPU", core, 0.031611},
		{"A2 Instance Ram running", "RAM", ram, 0.004237},
		{"G2 Instance Core running", "CPU", core, 0.024988},
		{"G2 Instance Ram running", "RAM", ram, 0.002927},
		{"G2 Custom Instance Core running", "CPU", core, 0.026237},
		{"Nvidia Tesla T4 GPU running", "GPU", core, 0.35},
		{"Nvidia Tesla V100 GPU running", "GPU", core, 2.48},
		{"Nvidia L4 GPU running", "GPU", core, 0.560040},
		{"Nvidia Tesla A100 GPU running", "GPU", core, 2.933908},
		{"Nvidia Tesla A100 80GB GPU running", "GPU", core, 3.927},
		{"Micro Instance with burstable CPU running", "F1Micro", core, 0.0076},
		{"SSD backed Local Storage", "LocalSSD", "GiBy.mo", 0.08},
		{"Storage PD Capacity", "PDStandard", "GiBy.mo", 0.04},
	}
}

// partOfTheWorld is some regions that have one price.
type partOfTheWorld struct {
	name    string
	prefix  string  // of its regions
	dearer  float64 // what the prices of the Americas are multiplied with
	regions []string
}

func partsOfTheWorld() []partOfTheWorld {
	all := []partOfTheWorld{{"Americas", "us-", 1, nil}, {"EMEA", "europe-", 1.1, nil}, {"APAC", "asia-", 1.16, nil}}
	for i := range all {
		for _, region := range Regions(GCP) {
			if strings.HasPrefix(region, all[i].prefix) {
				all[i].regions = append(all[i].regions, region)
			}
		}
	}
	return all
}

// gcpSKUs are the price list, in Cloud Billing's form.
func gcpSKUs() []any {
	var all []any
	add := func(description, usage, group, unit string, usd float64, regions []string) {
		id := strings.ToUpper(fmt.Sprintf("%016s", googleNumber(description+usage))[3:])
		id = id[:4] + "-" + id[4:8] + "-" + id[8:12]
		nanos := int64(math.Round(usd * 1e9))
		all = append(all, map[string]any{
			"name": "services/" + computeService + "/skus/" + id, "skuId": id, "description": description, "serviceRegions": regions, "serviceProviderName": "Google",
			"category": map[string]string{"serviceDisplayName": "Compute Engine", "resourceFamily": "Compute", "resourceGroup": group, "usageType": usage},
			"pricingInfo": []any{map[string]any{"summary": "", "currencyConversionRate": 1, "pricingExpression": map[string]any{
				"usageUnit": unit, "displayQuantity": 1, "tieredRates": []any{map[string]any{
					"startUsageAmount": 0,
					"unitPrice":        map[string]any{"currencyCode": "USD", "units": fmt.Sprint(nanos / 1e9), "nanos": nanos % 1e9},
				}},
			}}},
		})
	}
	for _, part := range partsOfTheWorld() {
		for _, p := range gcpPrices() {
			what, running := strings.CutSuffix(p.description, " running")
			where := " in " + part.name
			if running {
				where = " running" + where
			}
			usd := p.usd * part.dearer
			add(what+where, "OnDemand", p.group, p.unit, usd, part.regions)
			spot := "Spot Preemptible " + what
			if p.group == "GPU" || p.group == "LocalSSD" {
				spot = what + " attached to Spot Preemptible VMs"
			}
			switch p.group {
			case "PDStandard":
				continue
			case "CPU", "RAM", "N1Standard":
				add("Commitment v1: "+what+where+" for 1 Year", "Commit1Yr", p.group, p.unit, usd*0.63, part.regions)
			case "GPU":
				add("Commitment v1: "+what+where+" for 1 Year", "Commit1Yr", p.group, p.unit, usd*0.63, part.regions)
				add(what+" attached to DWS Defined Duration VMs"+where, "OnDemand", p.group, p.unit, usd*0.7, part.regions)
			}
			add(spot+where, "Preemptible", p.group, p.unit, usd*0.3, part.regions)
		}
	}
	return all
}

func listSKUs(c *gcpCall) (any, error) {
	if err := c.fails("describe", Thing{}); err != nil {
		return nil, err
	}
	if id := c.http.PathValue("service"); id != computeService {
		return nil, &gcpError{http.StatusNotFound, "notFound", "Service " + id + " not found."}
	}
	if currency := c.value("currencyCode"); currency != "" && currency != "USD" {
		return nil, invalid("Invalid value for field 'currencyCode': '%s'.", currency)
	}
	page, next, err := gcpPageOf(c, gcpSKUs(), "pageSize", 50)
	if err != nil {
		return nil, err
	}
	return map[string]any{"skus": page, "nextPageToken": next}, nil // Cloud Billing gives an empty one at the end
}
