package cluster

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestFailure(t *testing.T) {
	for _, tt := range []struct {
		name string
		f    Failure
		want string
	}{
		{"what", Failure{What: "it broke"}, "it broke"},
		{"its cause", Failure{What: "it broke", Err: io.EOF}, "it broke: EOF"},
		{"the cloud's words stand for the cause", Failure{What: "it broke", Words: "no capacity", Err: io.EOF}, "it broke: no capacity"},
		{"next", Failure{What: "it broke", Next: "try again"}, "it broke\n  try again"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.f.Error(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	err := fmt.Errorf("outer: %w", &Failure{Kind: Quota, Err: io.EOF})
	if got := KindOf(err); got != Quota {
		t.Errorf("KindOf = %q", got)
	}
	if !errors.Is(err, io.EOF) {
		t.Error("the cause is lost")
	}
	if got := KindOf(io.EOF); got != "" {
		t.Errorf("KindOf of a plain error = %q", got)
	}
}
