package module

import (
	"regexp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/provision"
)

// verdicts are the words that clouds use for the same few things. The first that
// fits counts. They are few on purpose: words that are not known end the try in
// the cloud's own words, which is better than a wrong guess.
var verdicts = []struct {
	words   *regexp.Regexp
	verdict provision.Verdict
}{
	{
		regexp.MustCompile(`(?i)\brate.?limit|too many requests|\bthrottl|request limit exceeded`),
		provision.Verdict{Kind: cluster.Throttled, Scope: provision.ScopeAccount},
	},
	{
		regexp.MustCompile(`(?i)\bunauthori[sz]ed\b|invalid (api |access )?(key|token|credentials)|(api key|token|credentials?) (is|are|has|have) (expired|invalid|not valid)|expired (token|credentials)|authentication (failed|required)|\bforbidden\b|access denied|not authori[sz]ed`),
		provision.Verdict{Kind: cluster.Auth, Scope: provision.ScopeAccount, Next: "see whether the credentials that the settings name in env are right"},
	},
	{
		regexp.MustCompile(`(?i)insufficient (funds|balance|credits?)|payment required|not enough (funds|balance|credits?)`),
		provision.Verdict{Kind: cluster.Quota, Scope: provision.ScopeAccount, Next: "the account has run out of money"},
	},
	{
		regexp.MustCompile(`(?i)\bno (available |free )?capacity|insufficient.capacity|not enough (capacity|resources)|out of (capacity|stock)|sold out|capacity (is )?(not available|unavailable|exceeded)|no (available )?(hosts?|nodes?) (available|found with)|\bstockout`),
		provision.Verdict{Kind: cluster.Capacity, Scope: provision.ScopeZone},
	},
	{
		regexp.MustCompile(`(?i)\bquota|\blimit (has been )?(exceeded|reached)|(reached|exceeded|exceeds) (the|your) [a-z -]{0,40}limit|maximum number of (instances|machines|servers|droplets|vms)`),
		provision.Verdict{Kind: cluster.Quota, Scope: provision.ScopeRegion},
	},
	{
		regexp.MustCompile(`(?i)\b(bad gateway|service unavailable|gateway time-?out|internal server error|temporarily unavailable|connection (reset|refused)|i/o timeout|tls handshake timeout)\b`),
		provision.Verdict{Kind: cluster.Transient, Scope: provision.ScopeZone},
	},
}

// Judge knows what providers commonly say.
func (c *Cloud) Judge(words string) (provision.Verdict, bool) {
	for _, v := range verdicts {
		if v.words.MatchString(words) {
			return v.verdict, true
		}
	}
	return provision.Verdict{}, false
}
