package main

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// median gives the middle value, the mean of the two middle ones where there is
// none; 0 for none at all.
func median[T ~int64 | ~float64](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

// percentile gives the smallest value that at least p percent of the values do
// not exceed; 0 for none at all.
func percentile[T cmp.Ordered](values []T, p float64) T {
	var zero T
	if len(values) == 0 {
		return zero
	}
	sorted := slices.Sorted(slices.Values(values))
	at := int(math.Ceil(p/100*float64(len(sorted)))) - 1
	return sorted[max(0, min(at, len(sorted)-1))]
}

// span is a stretch of time.
type span struct{ from, to time.Time }

// covered is how much time lies within at least one of the spans, and sum what
// their lengths add up to.
func covered(spans []span) (union, sum time.Duration) {
	sorted := slices.Clone(spans)
	slices.SortFunc(sorted, func(a, b span) int { return a.from.Compare(b.from) })
	var end time.Time
	for _, s := range sorted {
		if !s.to.After(s.from) {
			continue
		}
		sum += s.to.Sub(s.from)
		if s.from.After(end) {
			end = s.from
		}
		if s.to.After(end) {
			union += s.to.Sub(end)
			end = s.to
		}
	}
	return union, sum
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// column picks one number of each of many things.
func column[T, V any](of []T, pick func(T) V) []V {
	out := make([]V, len(of))
	for i, t := range of {
		out[i] = pick(t)
	}
	return out
}
