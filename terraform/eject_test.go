package terraform_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
	"github.com/levinrun/levin/terraform/runnertest"
)

func ejectedGroups() []terraform.Root {
	west := awsRoot()
	west.Module.ProviderConfig = map[string]map[string]any{"aws": {"region": "us-west-2"}}
	west.Machines = map[string]terraform.MachineInput{"demo-abc123-load-1": {Type: "m6i.large", Zone: "usw2-az1"}}
	again := awsRoot()
	again.Machines = map[string]terraform.MachineInput{"demo-abc123-more-1": {Type: "m6i.large"}}
	return []terraform.Root{awsRoot(), west, again, gcpRoot()}
}

func TestEjectGolden(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	if err := terraform.Eject(dir, ejectedGroups(), terraform.EjectOptions{Name: "demo"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"main.tf", "variables.tf", "outputs.tf", "README.md"} {
		checkGolden(t, filepath.Join("ejected", name), []byte(readFile(t, filepath.Join(dir, name))))
	}
	for _, name := range []string{"modules/aws/main.tf", "modules/aws/variables.tf", "modules/gcp/main.tf"} {
		if readFile(t, filepath.Join(dir, name)) == "" {
			t.Errorf("%s is empty", name)
		}
	}
	b := realBinary(t)
	if out, err := exec.Command(b.Path, "fmt", "-check", "-diff", "-recursive", dir).CombinedOutput(); err != nil {
		t.Errorf("terraform fmt: %v\n%s", err, out)
	}
	// Nothing of Levin's own: no key, no tag that a sweep looks for.
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(path, "/modules/") {
			return err
		}
		for _, word := range []string{"OPENSSH", "ssh-ed25519 ", "levin-run", "levin-expires", "unreached", "backend"} {
			if strings.Contains(readFile(t, path), word) {
				t.Errorf("%s holds %q", path, word)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// The same groups give the same bytes.
func TestEjectIsDeterministic(t *testing.T) {
	first, err := terraform.Ejected(ejectedGroups(), terraform.EjectOptions{Name: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again, err := terraform.Ejected(ejectedGroups(), terraform.EjectOptions{Name: "demo"})
		if err != nil {
			t.Fatal(err)
		}
		if !maps.EqualFunc(first, again, slices.Equal[[]byte]) {
			t.Fatal("another time, other bytes")
		}
	}
}

// What is ejected is applied and destroyed by Terraform alone.
func TestEjectedRootIsApplied(t *testing.T) {
	b := realBinary(t)
	dir, record := filepath.Join(t.TempDir(), "out"), filepath.Join(t.TempDir(), "record")
	group := func(name string) terraform.Root {
		return terraform.Root{Run: "r", Group: "r-" + name, Module: runnertest.Shell(), TTL: 60,
			Machines: map[string]terraform.MachineInput{name: runnertest.Line("echo +"+name+" >>"+record, "echo -"+name+" >>"+record)}}
	}
	if err := terraform.Eject(dir, []terraform.Root{group("a"), group("b")}, terraform.EjectOptions{Name: "demo"}); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(key, []byte("ssh-ed25519 AAAA\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init"}, {"apply", "-auto-approve"}, {"output", "-json"}, {"destroy", "-auto-approve"}} {
		cmd := exec.Command(b.Path, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "TF_INPUT=0", "TF_VAR_ssh_public_key_file="+key, `TF_VAR_ingress_cidrs=["192.0.2.1/32"]`)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("terraform %v: %v\n%s", args, err, out)
		}
		if args[0] == "output" && !strings.Contains(string(out), "ssh -p 22 shell@192.0.2.1") {
			t.Errorf("outputs: %s", out)
		}
	}
	lines := strings.Fields(readFile(t, record))
	slices.Sort(lines)
	if want := []string{"+a", "+b", "-a", "-b"}; !slices.Equal(lines, want) {
		t.Errorf("created and destroyed: %v, want %v", lines, want)
	}
}

func TestEjectRefuses(t *testing.T) {
	good := func() []terraform.Root { return []terraform.Root{awsRoot()} }
	other := gcpRoot()
	other.Module.Requires = map[string]terraform.Requirement{"aws": {Source: "example/aws"}}
	other.Module.ProviderConfig = nil
	otherFiles := awsRoot()
	otherFiles.Module.Files = terraform.GCPModule().Files
	otherFiles.Machines = nil
	local := terraform.Root{Run: "r", Group: "g", Module: terraform.LocalModule()}
	secret := awsRoot()
	secret.Extra["role"] = "-----BEGIN RSA PRIVATE KEY-----"
	for _, c := range []struct {
		name   string
		groups []terraform.Root
		as     string
		want   string
	}{
		{"nothing", nil, "demo", "no machine"},
		{"a name that is none", good(), "My Demo", `"My Demo" is no name`},
		{"no name", good(), "", "is no name"},
		{"a provider that is part of levin", []terraform.Root{awsRoot(), local}, "demo", "part of levin"},
		{"two providers of one name", []terraform.Root{awsRoot(), other}, "demo", `different providers by "aws"`},
		{"two modules of one name", []terraform.Root{awsRoot(), otherFiles}, "demo", `two different modules called "aws"`},
		{"two machines of one name", []terraform.Root{awsRoot(), awsRoot()}, "demo", `two machines are called "demo-abc123-serve-1"`},
		{"a private key", []terraform.Root{secret}, "demo", "private key would be written into main.tf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "out")
			err := terraform.Eject(dir, c.groups, terraform.EjectOptions{Name: c.as})
			if cluster.KindOf(err) != cluster.BadInput || !strings.Contains(fmt.Sprint(err), c.want) {
				t.Errorf("error: %v", err)
			}
			if _, err := os.Stat(dir); err == nil {
				t.Error("the folder was made")
			}
		})
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := terraform.Eject(full, good(), terraform.EjectOptions{Name: "demo"}); cluster.KindOf(err) != cluster.BadInput || !strings.Contains(err.Error(), "mine is there") {
		t.Errorf("a folder that is not empty: %v", err)
	}
}
