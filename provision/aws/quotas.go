package aws

import "strings"

// quota is one limit of an account in a region, on the virtual CPUs of a group of
// families.
type quota struct {
	Name string
	Code string // of Service Quotas, service "ec2"
}

// quotaOf gives the limit that a machine type counts against, by "Amazon EC2
// instance type quotas" (on demand and spot) in AWS's documentation; the bool is
// false for a family that it does not list.
func quotaOf(typ string, spot bool) (quota, bool) {
	family, _, _ := strings.Cut(typ, ".")
	letters := family[:len(family)-len(strings.TrimLeft(family, "abcdefghijklmnopqrstuvwxyz"))]
	pick := func(name, onDemand, onSpot string) (quota, bool) {
		if spot {
			return quota{"All " + name + " Spot Instance Requests", onSpot}, onSpot != ""
		}
		return quota{"Running On-Demand " + name + " instances", onDemand}, onDemand != ""
	}
	switch letters {
	case "a", "c", "d", "h", "i", "m", "r", "t", "z", "im", "is":
		return pick("Standard (A, C, D, H, I, M, R, T, Z)", "L-1216C47A", "L-34B43A08")
	case "g", "gr", "vt":
		return pick("G and VT", "L-DB2E81BA", "L-3819A6DF")
	case "p":
		// Spot has a limit of its own from the fifth generation on.
		if generation := strings.TrimPrefix(family, "p"); spot && generation >= "5" {
			return pick("P5", "", "L-C4BD4855")
		}
		return pick("P", "L-417A185B", "L-7212CCBC")
	case "x":
		return pick("X", "L-7295265B", "L-E3A00192")
	case "f":
		return pick("F", "L-74FC7D96", "L-88CF9481")
	case "inf":
		return pick("Inf", "L-1945791B", "L-B5D1601B")
	case "trn":
		return pick("Trn", "L-2C3B7624", "L-6B0D517C")
	case "dl":
		return pick("DL", "L-6E869C2A", "L-85EED4F7")
	case "hpc":
		return pick("HPC", "L-F7808C92", "")
	case "u":
		return pick("High Memory", "L-43DA4232", "")
	}
	return quota{}, false
}
