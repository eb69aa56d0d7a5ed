package gcp

import "strings"

// What Google takes for data that leaves a region, in USD per GiB:
// https://cloud.google.com/vpc/network-pricing, "Internet egress" (Premium Tier,
// the first tier, without the free GiB a month) and "VM-to-VM egress between
// regions", as of 2026-11. Google bills by the GiB. Within a region what crosses
// no zone is free; the 0.01 between zones is left out, as machines are reached
// within one.
const (
	toInternet  = 0.12
	toContinent = 0.02 // between regions of North America, or of Europe
	toEurope    = 0.05 // between North America and Europe, either way
)

// Egress gives USD per GiB from a region to a location. Data that comes in costs
// nothing.
func (c *Cloud) Egress(region, location string) float64 {
	to, found := strings.CutPrefix(location, kind+"/")
	if !found {
		return toInternet
	}
	here, there := continent(region), continent(to)
	switch {
	case to == region:
		return 0
	case here == there && (here == "us" || here == "europe"):
		return toContinent
	case here+there == "useurope" || here+there == "europeus":
		return toEurope
	}
	return max(distant(here), distant(there))
}

// distant is what it costs to leave or to enter the continents where traffic
// between regions is dearer.
func distant(continent string) float64 {
	switch continent {
	case "us", "europe", "asia":
		return 0.08
	case "australia":
		return 0.10
	case "southamerica":
		return 0.14
	}
	return 0.11 // Africa and the Middle East
}

// continent is the first part of a region's name; Canada and Mexico count with the
// United States.
func continent(region string) string {
	first, _, _ := strings.Cut(region, "-")
	if first == "northamerica" {
		return "us"
	}
	return first
}
