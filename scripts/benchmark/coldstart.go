package main

import (
	"context"
	"time"
)

// coldStart starts the program again and again. Nothing of it but its pages in
// the cache of the operating system is warm: Levin has no daemon.
func coldStart(ctx context.Context, r *rig) ([]row, error) {
	if err := r.build(ctx); err != nil {
		return nil, err
	}
	p, err := r.newPlace("cold-start")
	if err != nil {
		return nil, err
	}
	const times = 20
	var took, bare []time.Duration
	for i := range times + 1 {
		d, err := p.timed(ctx, r.levin, "version")
		if err != nil {
			return nil, err
		}
		b, err := p.timed(ctx, "/bin/sh", "-c", ":")
		if err != nil {
			return nil, err
		}
		if i > 0 {
			took, bare = append(took, d), append(bare, b)
		}
	}
	return []row{measured("`levin version`, cold start", milliseconds(median(took)), 30, "ms", false,
		"median of %d, %.1f to %.1f ms; `sh -c :` takes %.1f ms here", times,
		milliseconds(percentile(took, 0)), milliseconds(percentile(took, 100)), milliseconds(median(bare)))}, nil
}
