package aws

import "strings"

// What AWS takes for data that leaves a region, in USD per GB: "Data Transfer"
// under https://aws.amazon.com/ec2/pricing/on-demand/, as of 2026-11; the first
// tier, without the free 100 GB a month.
//
// A GB there is taken for 10^9 bytes. AWS does not say on that page which it
// means; of the two readings this is the one that prices moving data higher.
const (
	perGB = 1.073741824 // GB in a GiB

	// Between zones, and to a public address of the same region. (Within one zone, by
	// private addresses, it is free.)
	sameRegion = 0.01
)

// rates are what leaving one region costs.
type rates struct {
	internet float64 // to anywhere outside AWS
	region   float64 // to another region of AWS
}

// ratesOf gives the rates of a region. Those of North America and Europe are the
// same; others are listed where they are known, and for the rest the highest of
// the listed ones of their continent counts.
func ratesOf(region string) rates {
	switch region {
	case "ap-northeast-1":
		return rates{0.114, 0.09}
	case "ap-northeast-2":
		return rates{0.126, 0.08}
	case "ap-south-1":
		return rates{0.1093, 0.086}
	case "ap-southeast-1":
		return rates{0.12, 0.09}
	case "ap-southeast-2":
		return rates{0.114, 0.098}
	case "sa-east-1":
		return rates{0.15, 0.138}
	case "af-south-1":
		return rates{0.154, 0.147}
	case "me-south-1":
		return rates{0.117, 0.1105}
	}
	if strings.HasPrefix(region, "ap-") {
		return rates{0.126, 0.098}
	}
	return rates{0.09, 0.02}
}

// Egress gives USD per GiB from a region to a location. Data that comes in costs
// nothing.
func (c *Cloud) Egress(region, location string) float64 {
	r := ratesOf(region)
	switch to, found := strings.CutPrefix(location, kind+"/"); {
	case found && to == region:
		return sameRegion * perGB
	case found:
		return r.region * perGB
	}
	return r.internet * perGB
}
