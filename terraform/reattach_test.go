package terraform_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
	"github.com/levinrun/levin/terraform/runnertest"
)

// Providers that the user's environment names are used, and those of the call go
// before them; each has one key, whether or not its host is written.
func TestReattach(t *testing.T) {
	record := filepath.Join(t.TempDir(), "record")
	entry := func(address string) string {
		return `{"Protocol":"grpc","ProtocolVersion":6,"Pid":7,"Test":true,"Addr":{"Network":"unix","String":"` + address + `"}}`
	}
	x := newExec(t, func(c *terraform.Config) {
		c.Binary = playing(t, `printf %s "$TF_REATTACH_PROVIDERS" >`+record)
		c.Env = append(os.Environ(), `TF_REATTACH_PROVIDERS={"registry.terraform.io/hashicorp/aws":`+entry("/user/aws")+
			`,"hashicorp/google":`+entry("/user/google")+`,"example.com/acme/thing":`+entry("/user/thing")+`}`)
	})
	own := func(address string) terraform.Reattach {
		return terraform.Reattach{Protocol: "grpc", ProtocolVersion: 5, PID: 8, Network: "unix", Address: address}
	}
	for _, c := range []struct {
		name  string
		given map[string]terraform.Reattach
		want  map[string]string
	}{
		{"of the user alone", nil, map[string]string{
			"hashicorp/aws": "/user/aws", "hashicorp/google": "/user/google", "example.com/acme/thing": "/user/thing",
		}},
		{"both", map[string]terraform.Reattach{"levinrun/levin": own("/levin"), "registry.opentofu.org/hashicorp/google": own("/google")}, map[string]string{
			"hashicorp/aws": "/user/aws", "hashicorp/google": "/google", "example.com/acme/thing": "/user/thing", "levinrun/levin": "/levin",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := x.Apply(t.Context(), runnertest.Root(t, runnertest.Lines("a")), terraform.Providers{Reattach: c.given}); err != nil {
				t.Fatal(err)
			}
			var given map[string]struct {
				ProtocolVersion, Pid int
				Test                 bool
				Addr                 struct{ Network, String string }
			}
			if err := json.Unmarshal([]byte(readFile(t, record)), &given); err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			for source, g := range given {
				got[source] = g.Addr.String
				if !g.Test || g.Addr.Network != "unix" || g.Pid+g.ProtocolVersion != 13 {
					t.Errorf("%s: %+v", source, g)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReattachIsRefused(t *testing.T) {
	for _, text := range []string{"not JSON", "[]", `{"hashicorp/aws":{"Protocol":"grpc","Pid":1}}`} {
		_, err := terraform.NewRunner(terraform.Config{
			Binary: terraform.Binary{Path: "/bin/true"}, CacheDir: t.TempDir(), Env: []string{"TF_REATTACH_PROVIDERS=" + text},
		})
		if cluster.KindOf(err) != cluster.BadInput {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// A provider that runs already is not looked for at init: what fails here is the
// apply, which finds nobody at its address.
func TestReattachedNeedsNoDownload(t *testing.T) {
	config := filepath.Join(t.TempDir(), "terraformrc")
	// No place to install from: anything that is looked for is missed.
	if err := os.WriteFile(config, []byte("provider_installation {\n  filesystem_mirror {\n    path = \""+t.TempDir()+"\"\n  }\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append(os.Environ(), "TF_CLI_CONFIG_FILE="+config)
	module := runnertest.Shell()
	module.Requires = map[string]terraform.Requirement{"thing": {Source: "acme/thing", Version: ">= 1.0"}}
	root := terraform.Root{Run: "r", Group: "g", Module: module, Machines: runnertest.Lines("a")}
	apply := func(env []string) string {
		dir := filepath.Join(t.TempDir(), "root")
		if err := root.Write(dir); err != nil {
			t.Fatal(err)
		}
		x := newExec(t, func(c *terraform.Config) { c.Binary, c.Env = realBinary(t), env })
		_, err := x.Apply(t.Context(), dir, terraform.Providers{})
		var failed *terraform.ApplyError
		if !errors.As(err, &failed) {
			t.Fatalf("error: %v", err)
		}
		return failed.Command
	}
	if failed := apply(env); failed != "init" {
		t.Errorf("a provider that is nowhere made %s fail", failed)
	}
	reattach := `TF_REATTACH_PROVIDERS={"acme/thing":{"Protocol":"grpc","ProtocolVersion":6,"Pid":1,"Test":true,"Addr":{"Network":"unix","String":"/nobody"}}}`
	if failed := apply(append(slices.Clone(env), reattach)); failed != "apply" {
		t.Errorf("a provider that runs made %s fail", failed)
	}
}
