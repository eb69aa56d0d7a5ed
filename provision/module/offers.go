package module

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision"
)

// maxOffers bounds the file of offers, in bytes.
const maxOffers = 4 << 20

// columns of the file of offers, in the order in which they are told to people.
func columns() []string {
	return []string{"type", "region", "zone", "arch", "cpus", "memory", "disk", "gpu", "gpus", "gpu_memory", "price", "spot_price"}
}

var (
	number   = regexp.MustCompile(`^[0-9]{1,9}(\.[0-9]{1,9})?$`)
	gpuModel = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
)

// readOffers reads the file of offers of a cloud; regions, if there are any,
// narrow them.
func readOffers(cloud, file string, regions []string) ([]provision.Offer, error) {
	bad := func(err error) error {
		return &cluster.Failure{
			Kind: cluster.BadInput, What: fmt.Sprintf("the offers of cloud %s cannot be read", cloud), Err: err,
			Next: "docs/clouds.md says what the file holds",
		}
	}
	info, err := os.Stat(file)
	if err != nil {
		return nil, bad(err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxOffers {
		return nil, bad(fmt.Errorf("%s is not a file, or larger than %d MiB", file, maxOffers>>20))
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, bad(err)
	}
	all, err := parseOffers(data)
	if err != nil {
		return nil, bad(fmt.Errorf("%s:%w", file, err))
	}
	if len(regions) > 0 {
		all = slices.DeleteFunc(all, func(o provision.Offer) bool { return !slices.Contains(regions, o.Region) })
	}
	if len(all) == 0 {
		return nil, bad(fmt.Errorf("%s has no offers in %s", file, strings.Join(regions, ", ")))
	}
	for i := range all {
		all[i].Cloud = cloud
	}
	provision.SortOffers(all)
	return all, nil
}

// parseOffers reads offers: a line of column names, then a line for each machine
// that can be had. Lines that begin with # are comments. An error begins with the
// number of its line.
func parseOffers(data []byte) ([]provision.Offer, error) {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(data, []byte("\ufeff")))) // spreadsheets write a mark
	r.Comment, r.TrimLeadingSpace, r.ReuseRecord = '#', true, false
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("1: the file is empty; its first line names the columns: %s", strings.Join(columns(), ","))
	}
	if err != nil {
		return nil, lineOf(err)
	}
	for i, name := range header {
		header[i] = strings.TrimSpace(name)
		line, _ := r.FieldPos(i)
		switch {
		case !slices.Contains(columns(), header[i]):
			return nil, fmt.Errorf("%d: %q is not a column; the columns are %s", line, header[i], strings.Join(columns(), ", "))
		case slices.Contains(header[:i], header[i]):
			return nil, fmt.Errorf("%d: the column %s is here twice", line, header[i])
		}
	}
	if !slices.Contains(header, "type") || !slices.Contains(header, "price") && !slices.Contains(header, "spot_price") {
		return nil, errors.New("1: the columns type and price must be there")
	}
	var all []provision.Offer
	type machine struct {
		kind, region, zone, gpu string
		gpus                    int
	}
	lines := map[machine]int{}
	for {
		record, err := r.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, lineOf(err)
		}
		line, _ := r.FieldPos(0)
		offers, err := parseOffer(header, record)
		if err != nil {
			return nil, fmt.Errorf("%d: %w", line, err)
		}
		o := offers[0]
		key := machine{o.Type, o.Region, o.Zone, o.GPU, o.GPUs}
		if first := lines[key]; first > 0 {
			return nil, fmt.Errorf("%d: %s is here twice in the same place; it is also on line %d", line, o.Type, first)
		}
		lines[key] = line
		all = append(all, offers...)
	}
	if len(all) == 0 {
		return nil, errors.New("1: there are no offers")
	}
	return all, nil
}

// lineOf puts the line of an error of the CSV reader first.
func lineOf(err error) error {
	var parse *csv.ParseError
	if errors.As(err, &parse) {
		return fmt.Errorf("%d: %w", parse.Line, parse.Err)
	}
	return fmt.Errorf("1: %w", err)
}

// parseOffer reads one line: an offer on demand, one as spot, or both.
func parseOffer(header, record []string) ([]provision.Offer, error) {
	o := provision.Offer{OS: "linux", Arch: "amd64"}
	var price, spot float64
	onDemand := false
	for i, name := range header {
		text := strings.TrimSpace(record[i])
		if text == "" {
			continue
		}
		var err error
		switch name {
		case "type":
			o.Type, err = word(text)
		case "region":
			o.Region, err = word(text)
		case "zone":
			o.Zone, err = word(text)
		case "arch":
			if o.Arch = text; text != "amd64" && text != "arm64" {
				err = fmt.Errorf("must be amd64 or arm64, is %q", text)
			}
		case "gpu":
			if o.GPU = strings.ToUpper(text); !gpuModel.MatchString(text) {
				err = fmt.Errorf("must be a model such as A100, is %q", text)
			}
		case "gpus":
			if o.GPUs, err = strconv.Atoi(text); err != nil || o.GPUs < 1 || o.GPUs > 1024 {
				err = fmt.Errorf("must be a whole number from 1, is %q", text)
			}
		case "cpus":
			o.CPUs, err = amount(text, "virtual CPUs")
		case "memory":
			o.Memory, err = amount(text, "GiB")
		case "disk":
			o.Disk, err = amount(text, "GiB")
		case "gpu_memory":
			o.GPUMemory, err = amount(text, "GiB")
		case "price":
			onDemand = true
			if price, err = amount(text, "USD an hour"); text == "0" {
				err = nil // a machine may cost nothing
			}
		case "spot_price":
			spot, err = amount(text, "USD an hour")
		}
		if err != nil {
			return nil, fmt.Errorf("%s %w", name, err)
		}
	}
	switch {
	case o.Type == "":
		return nil, errors.New("type is empty")
	case o.GPU == "" && (o.GPUs > 0 || o.GPUMemory > 0):
		return nil, errors.New("there are gpus without a model; fill in gpu")
	case o.GPU != "" && o.GPUs == 0:
		o.GPUs = 1
	}
	var offers []provision.Offer
	if onDemand {
		o.PricePerHour = price
		offers = append(offers, o)
	}
	if spot > 0 {
		o.PricePerHour, o.Spot = spot, true
		offers = append(offers, o)
	}
	if len(offers) == 0 {
		return nil, errors.New("price and spot_price are empty; a machine that costs nothing has the price 0")
	}
	return offers, nil
}

// word reads a name, which Terraform and people see.
func word(text string) (string, error) {
	for _, r := range text {
		if r <= ' ' || r == 0x7f || r == '"' || r == '\\' {
			return "", fmt.Errorf("holds blanks or quotes: %q", text)
		}
	}
	if len(text) > 200 {
		return "", fmt.Errorf("is longer than 200 bytes: %.40q…", text)
	}
	return text, nil
}

// amount reads a number above 0 without a unit.
func amount(text, unit string) (float64, error) {
	v, err := strconv.ParseFloat(text, 64)
	if !number.MatchString(text) || err != nil || v == 0 {
		return 0, fmt.Errorf("must be a number above 0 of %s, without a unit, is %q", unit, text)
	}
	return v, nil
}
