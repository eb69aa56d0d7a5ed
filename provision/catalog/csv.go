package catalog

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The form of a catalog: a line "levin-offers,<version>,<kind>,<date>" with the
// day of the prices (2026-05-31, or 2026 when only the year is known), a line with
// the names of the columns, and a line for each row. Zones are separated by
// spaces.
const (
	magic   = "levin-offers"
	version = "1"
)

// columns in the order in which they are written. When a catalog is read they can
// stand in any order, and those that are not needed may be left out.
var columns = [...]struct {
	name   string
	needed bool
	read   func(*Row, string) error
	write  func(*Row) string
}{
	{"type", true, func(r *Row, s string) error { r.Type = s; return nil }, func(r *Row) string { return r.Type }},
	{"arch", false, readArch, func(r *Row) string { return r.Arch }},
	{"cpus", false, amount(func(r *Row) *float64 { return &r.CPUs }), func(r *Row) string { return number(r.CPUs) }},
	{"memory", false, amount(func(r *Row) *float64 { return &r.Memory }), func(r *Row) string { return number(r.Memory) }},
	{"gpu", false, func(r *Row, s string) error { r.GPU = strings.ToUpper(s); return nil }, func(r *Row) string { return r.GPU }},
	{"gpus", false, readGPUs, func(r *Row) string { return number(float64(r.GPUs)) }},
	{"gpu_memory", false, amount(func(r *Row) *float64 { return &r.GPUMemory }), func(r *Row) string { return number(r.GPUMemory) }},
	{"region", false, func(r *Row, s string) error { r.Region = s; return nil }, func(r *Row) string { return r.Region }},
	{"zones", false, func(r *Row, s string) error { r.Zones = strings.Fields(s); return nil }, func(r *Row) string { return strings.Join(r.Zones, " ") }},
	{"price", false, amount(func(r *Row) *float64 { return &r.Price }), func(r *Row) string { return number(r.Price) }},
	{"spot_price", false, amount(func(r *Row) *float64 { return &r.SpotPrice }), func(r *Row) string { return number(r.SpotPrice) }},
}

// Read reads a catalog in its own CSV form. GPUs are given the names and the
// memory that people know them by. Errors say the line.
func Read(from io.Reader) (*Catalog, error) {
	in := bufio.NewReaderSize(from, 64<<10)
	head, err := in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	c, err := readHead(strings.TrimRight(head, "\r\n"))
	if err != nil {
		return nil, fmt.Errorf("line 1: %w", err)
	}
	lines := csv.NewReader(in)
	lines.ReuseRecord = true
	names, err := lines.Read()
	if err != nil {
		return nil, fmt.Errorf("line 2 must name the columns: %w", shifted(err))
	}
	order, err := readColumns(names)
	if err != nil {
		return nil, fmt.Errorf("line 2: %w", err)
	}
	for {
		fields, err := lines.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, shifted(err)
		}
		row, err := readRow(order, fields)
		if err != nil {
			line, _ := lines.FieldPos(0)
			return nil, fmt.Errorf("line %d: %w", line+1, err)
		}
		c.Rows = append(c.Rows, row)
	}
	SortRows(c.Rows)
	for i := 1; i < len(c.Rows); i++ {
		if compareRows(c.Rows[i-1], c.Rows[i]) == 0 {
			return nil, fmt.Errorf("%s in region %q is there twice", c.Rows[i].Type, c.Rows[i].Region)
		}
	}
	return c, nil
}

// shifted counts the line in front of those that the CSV reader sees.
func shifted(err error) error {
	var p *csv.ParseError
	if errors.As(err, &p) {
		return fmt.Errorf("line %d: %w", p.Line+1, p.Err)
	}
	return err
}

func readHead(line string) (*Catalog, error) {
	fields := strings.Split(line, ",")
	switch {
	case len(fields) != 4 || fields[0] != magic:
		return nil, fmt.Errorf("must be %s,%s,KIND,DATE", magic, version)
	case fields[1] != version:
		return nil, fmt.Errorf("is of format %q; this version of Levin knows format %s", fields[1], version)
	case fields[2] == "":
		return nil, errors.New("must name the kind of cloud")
	}
	c := &Catalog{Kind: fields[2]}
	var err error
	if c.AsOf, err = time.Parse(time.DateOnly, fields[3]); err != nil {
		c.YearOnly = true
		if c.AsOf, err = time.Parse("2006", fields[3]); err != nil {
			return nil, fmt.Errorf("has the date %q; it must be a day such as 2026-05-31, or a year", fields[3])
		}
	}
	return c, nil
}

// readColumns gives, for each field of a line, the column it belongs to.
func readColumns(names []string) ([]int, error) {
	order := make([]int, len(names))
	var seen [len(columns)]bool
	for i, name := range names {
		at := -1
		for j := range columns {
			if columns[j].name == strings.TrimSpace(name) {
				at = j
			}
		}
		switch {
		case at < 0:
			return nil, fmt.Errorf("there is no column %q; there are %s", name, columnNames())
		case seen[at]:
			return nil, fmt.Errorf("column %s is there twice", name)
		}
		seen[at], order[i] = true, at
	}
	for j := range columns {
		if columns[j].needed && !seen[j] {
			return nil, fmt.Errorf("column %s is missing", columns[j].name)
		}
	}
	return order, nil
}

func columnNames() string {
	names := make([]string, len(columns))
	for i := range columns {
		names[i] = columns[i].name
	}
	return strings.Join(names, ", ")
}

func readRow(order []int, fields []string) (Row, error) {
	row := Row{Arch: "amd64"}
	for i, s := range fields {
		s = strings.TrimSpace(s)
		if s == "" {
			continue
		}
		if column := &columns[order[i]]; column.read(&row, s) != nil {
			return row, fmt.Errorf("%s: %w", column.name, column.read(&row, s))
		}
	}
	switch {
	case row.Type == "":
		return row, errors.New("type is empty")
	case row.Price == 0 && row.SpotPrice == 0:
		return row, fmt.Errorf("%s has neither price nor spot_price", row.Type)
	case (row.GPU == "") != (row.GPUs == 0):
		return row, fmt.Errorf("%s must have both gpu and gpus, or neither", row.Type)
	}
	slices.Sort(row.Zones)
	if row.GPU != "" {
		row.GPUMemory = GPUMemory(row.GPUMemory)
		row.GPU = GPUModel(row.GPU, row.GPUMemory)
	}
	return row, nil
}

func readArch(r *Row, s string) error {
	if s != "amd64" && s != "arm64" {
		return fmt.Errorf("must be amd64 or arm64, is %q", s)
	}
	r.Arch = s
	return nil
}

func readGPUs(r *Row, s string) (err error) {
	if r.GPUs, err = strconv.Atoi(s); err != nil || r.GPUs < 0 || r.GPUs > 1024 {
		return fmt.Errorf("must be a whole number, is %q", s)
	}
	return nil
}

func amount(place func(*Row) *float64) func(*Row, string) error {
	return func(r *Row, s string) error {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || v < 0 || math.IsInf(v, 0) || math.IsNaN(v) {
			return fmt.Errorf("must be a number from 0, is %q", s)
		}
		*place(r) = v
		return nil
	}
}

// Write writes the catalog in its own CSV form, its rows in order. Values that
// are 0 are left empty.
func (c *Catalog) Write(to io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s,%s,%s,%s\n", magic, version, c.Kind, c.Date())
	rows := slices.Clone(c.Rows)
	SortRows(rows)

	lines := csv.NewWriter(&b)
	var fields [len(columns)]string
	for i := range columns {
		fields[i] = columns[i].name
	}
	lines.Write(fields[:]) // into memory: Error says what can go wrong
	for i := range rows {
		for j := range columns {
			fields[j] = columns[j].write(&rows[i])
		}
		lines.Write(fields[:])
	}
	lines.Flush()
	if err := lines.Error(); err != nil {
		return err
	}
	_, err := to.Write(b.Bytes())
	return err
}

// Date is when the prices were right, as exactly as it is known: "2026-05-31", or
// "2026".
func (c *Catalog) Date() string {
	if c.YearOnly {
		return c.AsOf.Format("2006")
	}
	return c.AsOf.Format(time.DateOnly)
}

func number(f float64) string {
	if f == 0 {
		return ""
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}
