package cluster

import (
	"errors"
	"strings"
)

// FailureKind says what sort of thing went wrong, so that code can decide what
// to do next without reading text.
type FailureKind string

// The kinds of failure. The first eight are a cloud's.
const (
	Capacity   FailureKind = "capacity"
	Quota      FailureKind = "quota"
	Auth       FailureKind = "auth"
	BadRequest FailureKind = "bad request"
	Throttled  FailureKind = "throttled"
	Price      FailureKind = "price"
	Transient  FailureKind = "transient"
	Preempted  FailureKind = "preempted" // the cloud has taken the machine back

	BadInput     FailureKind = "bad input"      // the app file, the settings or the command line: exit 2
	WorkFailed   FailureKind = "work failed"    // the user's program exited non-zero or timed out: exit 1
	Provisioning FailureKind = "provisioning"   // no machine could be had or reached: exit 3
	Untrusted    FailureKind = "untrusted"      // host key mismatch, wrong digest, path outside its folder
	Unclean      FailureKind = "not cleaned up" // something could not be removed: exit 4
	Interrupted  FailureKind = "interrupted"    // Ctrl-C: exit 130
)

// Failure is an error for people and for code. It prints as What, then in whose
// Words, then what to do Next.
type Failure struct {
	Kind  FailureKind
	What  string // what happened, one sentence, no trailing period: "could not create machine x on aws"
	Words string // the words of the cloud, of Terraform, of the host; empty if they are ours
	Next  string // what the reader can do next, one sentence; may be empty
	Err   error  // the cause for errors.Is and errors.As; not printed when Words is set
}

// Error gives the whole text on as many lines as it needs.
func (f *Failure) Error() string {
	var b strings.Builder
	b.WriteString(f.What)
	switch {
	case f.Words != "":
		b.WriteString(": " + f.Words)
	case f.Err != nil:
		b.WriteString(": " + f.Err.Error())
	}
	if f.Next != "" {
		b.WriteString("\n  " + f.Next)
	}
	return b.String()
}

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Err }

// KindOf finds the kind of the first Failure in err's chain, or "" if there is
// none.
func KindOf(err error) FailureKind {
	var f *Failure
	if errors.As(err, &f) {
		return f.Kind
	}
	return ""
}
