package configs

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	plainNumber = regexp.MustCompile(`^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$`)
	sizeText    = regexp.MustCompile(`^([+-]?[\d.]+)\s*([A-Za-z]*)$`)
	gpuModel    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	smallNumber = regexp.MustCompile(`^\d{1,2}$`)
)

// parseNumber reads a finite decimal number and nothing that only Go or YAML
// would take for one.
func parseNumber(s string) (float64, bool) {
	if !plainNumber.MatchString(s) {
		return 0, false
	}
	v, err := strconv.ParseFloat(s, 64)
	return v, err == nil && !math.IsInf(v, 0)
}

// parseDuration reads a duration of at least 0: numbers with the units h, m, s
// and ms.
func parseDuration(s string) (time.Duration, error) {
	v, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("must be a duration such as 90s, 15m or 2h, is %s", quote(s))
	case v < 0:
		return 0, fmt.Errorf("cannot be negative, is %s", s)
	}
	return v, nil
}

// unitOf gives how many GiB a unit is. GB is read as GiB, and so on, since that
// is what clouds mean by it.
func unitOf(s string) (gib float64, ok bool) {
	switch strings.ToUpper(s) {
	case "GB", "GIB":
		return 1, true
	case "MB", "MIB":
		return 1.0 / 1024, true
	case "TB", "TIB":
		return 1024, true
	}
	return 0, false
}

// parseRange reads N, N.., ..M or N..M. With sized each end may carry a unit and
// the range is in GiB: a bare number takes the unit of the other end, else GB.
func parseRange(s string, sized bool) (Range, error) {
	low, high, open := strings.Cut(s, "..")
	if !open {
		high = low
	}
	low, high = strings.TrimSpace(low), strings.TrimSpace(high)
	if low == "" && high == "" {
		return Range{}, errors.New("is an empty range")
	}
	a, unitA, err := parseEnd(low, sized)
	if err != nil {
		return Range{}, err
	}
	b, unitB, err := parseEnd(high, sized)
	if err != nil {
		return Range{}, err
	}
	r := Range{Min: a * firstUnit(unitA, unitB), Max: b * firstUnit(unitB, unitA)}
	const most = 1e9
	switch {
	case high != "" && r.Max == 0:
		return Range{}, errors.New("must be above 0")
	case high != "" && r.Min > r.Max:
		return Range{}, fmt.Errorf("is an empty range: %s is above %s", low, high)
	case r.Min > most || r.Max > most:
		return Range{}, errors.New("is absurdly large")
	}
	return r, nil
}

func firstUnit(a, b float64) float64 {
	switch {
	case a != 0:
		return a
	case b != 0:
		return b
	}
	return 1
}

// parseEnd reads one end of a range. A unit of 0 means that there was none.
func parseEnd(s string, sized bool) (v, unit float64, err error) {
	if s == "" {
		return 0, 0, nil
	}
	want := "must be N, N.., ..M or N..M"
	if sized {
		want += " with a unit, such as 16GB.. or 512MB..2TB"
	} else {
		want += ", such as 4 or 2..8"
	}
	m := sizeText.FindStringSubmatch(s)
	if m == nil {
		return 0, 0, fmt.Errorf("%s, not %s", want, quote(s))
	}
	v, ok := parseNumber(m[1])
	if !ok {
		return 0, 0, fmt.Errorf("%s, not %s", want, quote(s))
	}
	if m[2] != "" {
		if !sized {
			return 0, 0, fmt.Errorf("takes no unit, has %s", quote(m[2]))
		}
		if unit, ok = unitOf(m[2]); !ok {
			return 0, 0, fmt.Errorf("has an unknown unit %s; it can be MB, GB or TB", quote(m[2]))
		}
	}
	if v < 0 {
		return 0, 0, errors.New("cannot be negative")
	}
	return v, unit, nil
}

// parseGPU reads MODEL[:COUNT], or memory per GPU: 24GB.. and the like. A number
// is a model, such as 4090, unless it is so small that a count must be meant.
func parseGPU(s string) (GPU, error) {
	s = strings.TrimSpace(s)
	if m := sizeText.FindStringSubmatch(s); strings.Contains(s, "..") || m != nil && m[2] != "" && isUnit(m[2]) {
		r, err := parseRange(s, true)
		if err != nil {
			return GPU{}, err
		}
		return GPU{Count: 1, Memory: r}, nil
	}
	model, count, counted := strings.Cut(s, ":")
	switch _, number := parseNumber(model); {
	case counted || !number:
	case strings.Trim(model, "0123456789") != "":
		return GPU{}, fmt.Errorf("must be MODEL[:COUNT] or memory such as 24GB.., is %s", quote(s))
	case smallNumber.MatchString(model):
		return GPU{}, fmt.Errorf("must name a model, is %s; for %s GPUs of any model write {count: %s}", quote(s), s, s)
	}
	g, err := modelOf(model)
	if err != nil {
		return GPU{}, err
	}
	n := 1
	if counted {
		if n, err = strconv.Atoi(strings.TrimSpace(count)); err != nil || n < 1 || n > 1024 {
			return GPU{}, fmt.Errorf("must be MODEL[:COUNT] with a whole COUNT from 1, is %s", quote(s))
		}
	}
	return GPU{Models: []string{g}, Count: n}, nil
}

func isUnit(s string) bool {
	_, ok := unitOf(s)
	return ok
}

// modelOf checks the name of a GPU and writes it as Levin does.
func modelOf(s string) (string, error) {
	s = strings.TrimSpace(s)
	if !gpuModel.MatchString(s) {
		return "", fmt.Errorf("must be MODEL[:COUNT] or memory such as 24GB.., is %s", quote(s))
	}
	return strings.ToUpper(s), nil
}
