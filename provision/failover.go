package provision

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
)

// How long an offer that could not be had is tried after the others, by every
// run. Capacity comes and goes within minutes; a quota is raised by people; a spot
// price holds for about an hour; a machine that never answered was bad luck, or a
// zone that has trouble.
const (
	cooldownCapacity = 5 * time.Minute
	cooldownQuota    = 30 * time.Minute
	cooldownPrice    = 10 * time.Minute
	cooldownDoubt    = 5 * time.Minute
)

// repeats is how often an offer that failed for a passing reason (throttled,
// transient) is tried again before the next one is.
const repeats = 2

// refusal is why a cloud gave no machine, and what its words mean.
type refusal struct {
	*cluster.Failure
	cause error // what it was made of
	scope Scope
	// short are the words without Terraform's addresses, so that offers which failed
	// alike can be told of together.
	short string
}

// Unwrap gives the failure first, so that its kind is found.
func (r *refusal) Unwrap() []error { return []error{r.Failure, r.cause} }

// understand turns an error of a cloud, or of Terraform about one, into a refusal
// by the cloud's own table. Words that the table does not know, and errors that
// have a kind already, keep their kind.
func understand(cloud Cloud, err error) error {
	var known *refusal
	if err == nil || errors.As(err, &known) {
		return err
	}
	messages := messagesOf(err)
	var f cluster.Failure
	var cause *cluster.Failure
	if errors.As(err, &cause) {
		f = *cause
	} else {
		f = cluster.Failure{What: err.Error()}
	}
	r := &refusal{Failure: &f, cause: err, short: strings.Join(messages, "\n")}
	switch f.Kind {
	case "", cluster.Provisioning:
		v, ok := verdict(cloud, messages)
		if !ok {
			return err
		}
		f.Kind, r.scope, f.Next = v.Kind, v.Scope, cmp.Or(v.Next, f.Next)
	}
	return r
}

// messagesOf takes an error apart into what the cloud has said, without
// Terraform's addresses: those hold names that people chose, which may read like
// anything. What Terraform says of single machines is left out where it says
// something of the whole.
func messagesOf(err error) []string {
	var apply *terraform.ApplyError
	if !errors.As(err, &apply) {
		return []string{plain(err)}
	}
	var shared, all []string
	for _, d := range apply.Diagnostics {
		if d.Severity != "error" {
			continue
		}
		about := d.Machine()
		d.Address = ""
		if all = append(all, d.String()); about == "" {
			shared = append(shared, d.String())
		}
	}
	switch {
	case len(shared) > 0:
		return shared
	case len(all) > 0:
		return all
	}
	return []string{apply.Error()}
}

// verdict is what several messages mean together: what trying elsewhere does not
// help decides before what it does, and that before what passes.
func verdict(cloud Cloud, messages []string) (Verdict, bool) {
	judge, ok := cloud.(Judge)
	if !ok {
		return Verdict{}, false
	}
	weight := []cluster.FailureKind{
		cluster.Auth, cluster.BadRequest, cluster.Quota, cluster.Capacity, cluster.Price, cluster.Throttled, cluster.Transient,
	}
	var worst Verdict
	found := false
	for _, words := range messages {
		v, ok := judge.Judge(words)
		if ok && (!found || slices.Index(weight, v.Kind) < slices.Index(weight, worst.Kind)) {
			worst, found = v, true
		}
	}
	return worst, found
}

// scopeOf says how far an error reaches.
func scopeOf(err error) Scope {
	var r *refusal
	if errors.As(err, &r) {
		return cmp.Or(r.scope, ScopeZone)
	}
	return ScopeZone
}

// within reports whether a failure of one offer that reaches so far takes in
// another offer too.
func (s Scope) within(failed, o Offer) bool {
	switch s {
	case ScopeAccount:
		return o.Cloud == failed.Cloud
	case ScopeRegion:
		return o.Cloud == failed.Cloud && o.Region == failed.Region && o.Type == failed.Type && o.Spot == failed.Spot
	}
	return keyOf(o) == keyOf(failed)
}

// cooldowns are what an error teaches every run about an offer; nothing for an
// error that says nothing of it.
func cooldowns(o Offer, err error, now time.Time) []cluster.Cooldown {
	var r *refusal
	if !errors.As(err, &r) {
		return nil
	}
	var span time.Duration
	switch r.Kind {
	case cluster.Capacity:
		span = cooldownCapacity
	case cluster.Quota:
		span = cooldownQuota
	case cluster.Price:
		span = cooldownPrice
	default:
		return nil
	}
	c := cluster.Cooldown{
		Cloud: o.Cloud, Region: o.Region, Zone: o.Zone, Type: o.Type, Spot: o.Spot,
		Kind: r.Kind, Words: r.short, Until: now.Add(span),
	}
	switch scopeOf(err) {
	case ScopeRegion:
		c.Zone = ""
	case ScopeAccount: // however it is bought
		c.Region, c.Zone, c.Type = "", "", ""
		other := c
		other.Spot = !c.Spot
		return []cluster.Cooldown{c, other}
	}
	return []cluster.Cooldown{c}
}

// covers reports whether a cooldown is about an offer.
func covers(c cluster.Cooldown, o Offer) bool {
	return c.Cloud == o.Cloud && c.Spot == o.Spot &&
		(c.Region == "" || c.Region == o.Region) &&
		(c.Zone == "" || c.Zone == o.Zone) &&
		(c.Type == "" || c.Type == o.Type)
}

// hunt is the way of one request through its offers.
type hunt struct {
	left    []Offer // still to be tried, in order
	tries   []try
	alone   bool // the next try gets a group of its own
	again   bool // the next try is of the same offer
	spared  map[offerKey]bool
	repeats map[offerKey]int
	short   []Offer // ran into a quota
}

// try is an offer that was tried and why it gave no machine.
type try struct {
	offer   Offer
	machine string
	err     error
}

func newHunt(offers []Offer) *hunt {
	return &hunt{left: slices.Clone(offers), spared: map[offerKey]bool{}, repeats: map[offerKey]int{}}
}

// learn takes in what came of a try. It gives how many times of backoff to wait
// before the next one, and reports whether there is any sense in one.
func (h *hunt) learn(offer Offer, out outcome) (wait int, goOn bool) {
	key := keyOf(offer)
	h.alone, h.again = false, false
	if out.innocent && !h.spared[key] {
		h.spared[key], h.alone, h.again = true, true, true
		return 0, true
	}
	h.tries = append(h.tries, try{offer, out.machine, out.err})
	switch cluster.KindOf(out.err) {
	case cluster.Capacity, cluster.Price:
	case cluster.Quota:
		h.short = append(h.short, offer)
	case cluster.Transient, cluster.Throttled:
		if n := h.repeats[key]; n < repeats {
			h.repeats[key], h.again = n+1, true
			return 1 << n, true
		}
	default:
		return 0, false
	}
	scope := scopeOf(out.err)
	h.left = slices.DeleteFunc(h.left, func(o Offer) bool {
		return scope.within(offer, o) || out.busy && o.Cloud == offer.Cloud
	})
	return 0, true
}

// doubtful reports whether an offer draws on a quota that this request has run
// into already. Clouds count by families of types, and each its own way: those of
// the same family and region are tried after the others, and not left out.
func (h *hunt) doubtful(o Offer) bool {
	return slices.ContainsFunc(h.short, func(s Offer) bool {
		return s.Cloud == o.Cloud && s.Region == o.Region && s.Spot == o.Spot && family(s.Type) == family(o.Type)
	})
}

// family gives "g4dn" of g4dn.xlarge and "n1" of n1-standard-4.
func family(typ string) string {
	if at := strings.IndexAny(typ, ".-"); at > 0 {
		return typ[:at]
	}
	return typ
}

// order puts the offers that promise little last: those that this request has
// reason to doubt, and those that any run could not have a short while ago.
func (p *Provisioner) order(ctx context.Context, h *hunt) {
	// Only the order depends on it: a store that does not answer costs time at most.
	cooling, _ := p.cfg.Journal.Store().Cooldowns(ctx, p.cfg.Now())
	slices.SortStableFunc(h.left, func(a, b Offer) int {
		rank := func(o Offer) int {
			if h.doubtful(o) || slices.ContainsFunc(cooling, func(c cluster.Cooldown) bool { return covers(c, o) }) {
				return 1
			}
			return 0
		}
		return rank(a) - rank(b)
	})
}

// jitter gives between half of d and all of it, so that machines that were
// turned away together do not come back together.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}

// failure tells of every offer that was tried.
func (h *hunt) failure(r Request) error {
	f := &cluster.Failure{Kind: cluster.Provisioning, What: "no machine could be created for " + r.Component}
	if len(h.tries) == 0 {
		f.Kind = cluster.BadInput
		f.What += ": its choice has no offers"
		return f
	}
	offers := h.offers()
	f.Words, f.Err, f.Next = h.said(), h.causes(), h.next()
	if len(offers) == 1 {
		f.What += " on " + offers[0].String()
	} else {
		f.What += fmt.Sprintf(", %d offers were tried", len(offers))
	}
	switch kind := cluster.KindOf(h.tries[len(h.tries)-1].err); kind {
	case cluster.BadInput, cluster.Interrupted:
		f.Kind = kind
	}
	return f
}

// cut tells that ctx ended, while an offer was being tried, and of the offers
// that were tried before.
func (h *hunt) cut(ctx context.Context, r Request, trying Offer) error {
	cause := context.Cause(ctx)
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("creating a machine for %s: %w", r.Component, cause)
	}
	f := &cluster.Failure{
		Kind: cluster.Provisioning,
		What: fmt.Sprintf("no machine for %s was ready in time", r.Component),
		Next: "see start_timeout of the component, and what else its resources could allow",
		Err:  errors.Join(ctx.Err(), cause, h.causes()),
	}
	if trying.Cloud != "" {
		f.What += fmt.Sprintf(", %s was still being made ready", trying)
	}
	if f.Words = h.said(); f.Words == "" {
		f.Words = cause.Error()
	}
	return f
}

// offers gives those that were tried, each once.
func (h *hunt) offers() []Offer {
	var offers []Offer
	for _, t := range h.tries {
		if !slices.ContainsFunc(offers, func(o Offer) bool { return keyOf(o) == keyOf(t.offer) }) {
			offers = append(offers, t.offer)
		}
	}
	return offers
}

func (h *hunt) causes() error {
	causes := make([]error, len(h.tries))
	for i, t := range h.tries {
		causes[i] = fmt.Errorf("%s: %w", t.offer, t.err)
	}
	return errors.Join(causes...)
}

// next gives what people can do, once for each reason.
func (h *hunt) next() string {
	var all []string
	for _, t := range h.tries {
		var f *cluster.Failure
		if errors.As(t.err, &f) && f.Next != "" && !slices.Contains(all, f.Next) {
			all = append(all, f.Next)
		}
	}
	if len(all) == 0 && cluster.KindOf(h.tries[len(h.tries)-1].err) == cluster.Capacity {
		return "allow more types, regions or clouds in its resources, or try again later"
	}
	return strings.Join(all, "\n  ")
}

// said gives the clouds' own words, each once, with the offers that they were
// said of: on one line when that is a single offer, else on a line for each.
func (h *hunt) said() string {
	type saying struct {
		key, words string
		varied     bool // others said it in words that differ in details
		offers     []Offer
	}
	var sayings []*saying
	for _, t := range h.tries {
		words := wordsOf(t.err)
		key := t.offer.Cloud + " " + alike(words, t)
		at := slices.IndexFunc(sayings, func(s *saying) bool { return s.key == key })
		if at < 0 {
			at = len(sayings)
			sayings = append(sayings, &saying{key: key, words: words})
		}
		s := sayings[at]
		s.varied = s.varied || s.words != words
		if !slices.ContainsFunc(s.offers, func(o Offer) bool { return keyOf(o) == keyOf(t.offer) }) {
			s.offers = append(s.offers, t.offer)
		}
	}
	if len(sayings) == 1 && len(sayings[0].offers) == 1 {
		return sayings[0].words
	}
	var b strings.Builder
	for _, s := range sayings {
		b.WriteString("\n  " + together(s.offers) + ": " + strings.ReplaceAll(s.words, "\n", "\n    "))
		if s.varied && len(s.offers) > 1 {
			b.WriteString(" (of the first; the same of the others)")
		}
	}
	return b.String()
}

// wordsOf gives what was said about a try, without what people can do about it.
func wordsOf(err error) string {
	var r *refusal
	if errors.As(err, &r) && r.short != "" {
		return r.short
	}
	return plain(err)
}

// plain gives the words of an error without what people can do about it.
func plain(err error) string {
	var f *cluster.Failure
	switch {
	case !errors.As(err, &f):
		return err.Error()
	case f.Words != "":
		return f.Words
	}
	rest := *f
	rest.Next = ""
	return rest.Error()
}

// alike makes the same text of words that differ only in where they were said:
// the machine, the type, the zones, and the number of the request.
func alike(words string, t try) string {
	for _, own := range []string{t.machine, t.offer.Type, t.offer.Zone, t.offer.Region} {
		if own != "" {
			words = strings.ReplaceAll(words, own, "*")
		}
	}
	// A list of zones is one place: AWS says in which other zones there might be room.
	zone := `[a-z]+(-[a-z]+)+-?\d+(-?[a-z]|-az\d+)?|[a-z]+\d-az\d+|\*`
	places := regexp.MustCompile(`(` + zone + `)((,| or| and|, or|, and) (` + zone + `))*`)
	request := regexp.MustCompile(`(?i)request[ _]?id:? ?[0-9a-z-]{8,}`)
	return places.ReplaceAllString(request.ReplaceAllString(words, "*"), "*")
}

// together names several offers in short: "aws/g4dn.xlarge in use1-az1, use1-az2".
func together(offers []Offer) string {
	var names []string
	for len(offers) > 0 {
		first := offers[0]
		var places []string
		rest := slices.DeleteFunc(slices.Clone(offers), func(o Offer) bool {
			same := o.Cloud == first.Cloud && o.Type == first.Type && o.Spot == first.Spot
			if same {
				places = append(places, cmp.Or(o.Zone, o.Region))
			}
			return same
		})
		name := first.String()
		if len(places) > 1 {
			first.Zone, first.Region = "", ""
			name = fmt.Sprintf("%s in %s", first, strings.Join(places, ", "))
		}
		names, offers = append(names, name), rest
	}
	return strings.Join(names, "; ")
}
