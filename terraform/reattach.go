package terraform

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/terraform-exec/tfexec"

	"github.com/levinrun/levin/cluster"
)

// reattachVar names providers that run already, for whoever develops one: a
// JSON object of addresses by source.
const reattachVar = "TF_REATTACH_PROVIDERS"

// userReattach reads the providers that the user's environment names. Terraform
// is given them like those of Providers.Reattach.
func userReattach(env []string) (map[string]Reattach, error) {
	text := lookupEnv(env, reattachVar)
	if text == "" {
		return nil, nil
	}
	var given map[string]struct {
		Protocol        string
		ProtocolVersion int
		Pid             int
		Addr            struct{ Network, String string }
	}
	if err := json.Unmarshal([]byte(text), &given); err != nil {
		return nil, &cluster.Failure{
			Kind: cluster.BadInput,
			What: "the variable " + reattachVar + " is not understood",
			Next: "unset it, or set it to what the provider prints when it is started with -debug",
			Err:  err,
		}
	}
	found := map[string]Reattach{}
	for _, source := range slices.Sorted(maps.Keys(given)) {
		g := given[source]
		if g.Addr.Network == "" || g.Addr.String == "" {
			return nil, &cluster.Failure{
				Kind: cluster.BadInput,
				What: fmt.Sprintf("the variable %s gives no address for the provider %s", reattachVar, source),
				Next: "unset it, or set it to what the provider prints when it is started with -debug",
			}
		}
		found[shortSource(source)] = Reattach{
			Protocol: g.Protocol, ProtocolVersion: g.ProtocolVersion, PID: g.Pid,
			Network: g.Addr.Network, Address: g.Addr.String,
		}
	}
	return found, nil
}

// shortSource leaves out the host of a source address where it is the default
// one, so that the same provider always has the same key, and so that Terraform
// and OpenTofu, whose default hosts differ, both take it for theirs.
func shortSource(source string) string {
	for _, host := range []string{"registry.terraform.io/", "registry.opentofu.org/"} {
		if rest, ok := strings.CutPrefix(source, host); ok {
			return rest
		}
	}
	return source
}

// reattached are the providers that Terraform is not to start itself: those of
// the user's environment, and before them those of the call.
func (x *Exec) reattached(p Providers) map[string]Reattach {
	all := maps.Clone(x.reattach)
	if all == nil {
		all = map[string]Reattach{}
	}
	for source, r := range p.Reattach {
		all[shortSource(source)] = r
	}
	return all
}

// reattachInfo is what terraform-exec puts into TF_REATTACH_PROVIDERS.
func (x *Exec) reattachInfo(p Providers) tfexec.ReattachInfo {
	all := x.reattached(p)
	if len(all) == 0 {
		return nil
	}
	info := tfexec.ReattachInfo{}
	for source, r := range all {
		info[source] = tfexec.ReattachConfig{
			Protocol: r.Protocol, ProtocolVersion: r.ProtocolVersion, Pid: r.PID,
			Test: true, // or Terraform would kill that process, which is this one or the user's
			Addr: tfexec.ReattachConfigAddr{Network: r.Network, String: r.Address},
		}
	}
	return info
}
