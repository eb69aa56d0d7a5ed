package archtest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestTheTreeKeepsTheRules(t *testing.T) {
	h := levin()
	mod, err := os.ReadFile("../../go.mod")
	if err != nil || !strings.HasPrefix(string(mod), "module "+h.module+"\n") {
		t.Fatalf("../.. is not the folder of %s: %v", h.module, err)
	}
	found, err := h.check(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Error(f)
	}
}

// goFile writes a Go file of a package that imports packages of the module.
func goFile(pkg string, imports ...string) *fstest.MapFile {
	var b strings.Builder
	fmt.Fprintf(&b, "package %s\n", pkg)
	for _, i := range imports {
		fmt.Fprintf(&b, "import _ %q\n", levin().module+"/"+i)
	}
	return &fstest.MapFile{Data: []byte(b.String())}
}

func text(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

// model is a small tree that keeps every rule and leaves none stale.
func model() fstest.MapFS {
	return fstest.MapFS{
		"go.mod":                             text("module " + levin().module + "\n"),
		"cluster/cluster.go":                 goFile("cluster"),
		"cluster/sqlite/sqlite.go":           goFile("sqlite", "cluster"),
		"configs/configs.go":                 goFile("configs", "cluster"),
		"terraform/terraform.go":             goFile("terraform", "cluster"),
		"flow/flow.go":                       goFile("flow", "configs", "cluster"),
		"provision/provision.go":             goFile("provision", "terraform", "configs"),
		"provision/local/local.go":           goFile("local", "provision", "provision/local/machine"),
		"provision/local/machine/machine.go": goFile("machine", "cluster"),
		"provision/ssh/ssh.go":               goFile("ssh", "provision"),
		"provision/aws/aws.go":               goFile("aws", "provision"),
		"provision/gcp/gcp.go":               goFile("gcp", "provision"),
		"provision/module/module.go":         goFile("module", "provision"),
		"provision/cloudtest/cloudtest.go":   goFile("cloudtest", "provision/local/machine"),
		"launcher/launcher.go":               goFile("launcher", "launcher/agent", "cluster"),
		"launcher/agent/agent.go":            goFile("agent", "cluster"),
		"internal/ui/ui.go":                  goFile("ui", "cluster"),
		"internal/cli/cli.go":                goFile("cli", "internal/ui", "flow", "launcher", "provision/local", "provision/ssh", "provision/aws", "provision/gcp", "provision/module", "cluster/sqlite"),
		"internal/archtest/doc.go":           goFile("archtest"),
		"internal/e2e/e2e_test.go":           goFile("e2e_test", "cluster"),
		"cmd/levin/main.go":                  goFile("main", "internal/cli"),
		"cmd/levin-agent/main.go":            goFile("main", "launcher/agent", "provision/local/machine"),
		"scripts/benchmark/main.go":          goFile("main", "provision/local"),
		"examples/app/main.go":               goFile("main", "examples/ml"),
		"examples/ml/ml.go":                  goFile("ml"),
		"launcher/agent/agent_test.go":       text("package agent\nfunc init() {}\n"),
		"flow/testdata/bad.go":               text("this is no Go"),
		".git/bad.go":                        text("nor is this"),
		"examples/other/go.mod":              text("module other\n"),
		"examples/other/util/bad.go":         goFile("util", "internal/ui"),
	}
}

// Each rule trips on a tree that breaks it, and only that rule.
func TestRulesTrip(t *testing.T) {
	for _, tt := range []struct {
		name   string
		file   string
		data   *fstest.MapFile // nil takes the file out of the tree
		report []string
	}{
		{"nothing is wrong", "docs/page.md", text("words"), nil},
		{
			"up a level", "cluster/up.go", goFile("cluster", "configs"),
			[]string{"cluster/up.go: cluster may not import configs"},
		},
		{
			"up a level from a sub-package", "cluster/sqlite/up.go", goFile("sqlite", "flow"),
			[]string{"cluster/sqlite/up.go: cluster may not import flow"},
		},
		{
			"beside, below", "configs/beside.go", goFile("configs", "terraform"),
			[]string{"configs/beside.go: configs may not import terraform"},
		},
		{
			"beside, above", "flow/beside.go", goFile("flow", "provision"),
			[]string{"flow/beside.go: flow may not import provision"},
		},
		{
			"beside, in a test", "launcher/beside_test.go", goFile("launcher_test", "flow"),
			[]string{"launcher/beside_test.go: launcher may not import flow"},
		},
		{
			"a name that only begins like a room", "flow/odd.go", goFile("flow", "clusterette"),
			[]string{"flow/odd.go: flow may not import clusterette"},
		},
		{
			"a room imports the command line", "provision/up.go", goFile("provision", "internal/cli"),
			[]string{"provision/up.go: provision may not import internal/cli"},
		},
		{
			"the agent learns of its controller", "launcher/agent/up.go", goFile("agent", "launcher"),
			[]string{"launcher/agent/up.go: launcher/agent may not import launcher"},
		},
		{
			"the agent learns of apps", "launcher/agent/up.go", goFile("agent", "configs"),
			[]string{"launcher/agent/up.go: launcher/agent may not import configs"},
		},
		{
			"the agent's command grows", "cmd/levin-agent/more.go", goFile("main", "cluster"),
			[]string{"cmd/levin-agent/more.go: cmd/levin-agent may not import cluster"},
		},
		{
			"the agent's command takes the whole local cloud", "cmd/levin-agent/more.go", goFile("main", "provision/local"),
			[]string{"cmd/levin-agent/more.go: cmd/levin-agent may not import provision/local"},
		},
		{
			"the local machine learns of Terraform", "provision/local/machine/up.go", goFile("machine", "terraform"),
			[]string{"provision/local/machine/up.go: provision/local/machine may not import terraform"},
		},
		{
			"main does the work itself", "cmd/levin/more.go", goFile("main", "provision"),
			[]string{"cmd/levin/more.go: cmd/levin may not import provision"},
		},
		{
			"an engine prints", "flow/prints.go", goFile("flow", "internal/ui"),
			[]string{"flow/prints.go: flow may not import internal/ui", "flow/prints.go: only internal/cli may import internal/ui"},
		},
		{
			"a test prints", "internal/e2e/prints_test.go", goFile("e2e", "internal/ui"),
			[]string{"internal/e2e/prints_test.go: internal/e2e may not import internal/ui", "internal/e2e/prints_test.go: only internal/cli may import internal/ui"},
		},
		{
			"the room of clouds names one", "provision/registry.go", goFile("provision", "provision/ssh"),
			[]string{"provision/registry.go: only internal/cli may import provision/ssh"},
		},
		{
			"an example is imported", "flow/example.go", goFile("flow", "examples/ml"),
			[]string{"flow/example.go: flow may not import examples/ml"},
		},
		{
			"an example imports", "examples/app/more.go", goFile("main", "cluster"),
			[]string{"examples/app/more.go: examples may not import cluster"},
		},
		{
			"a room nobody has heard of", "attic/attic.go", goFile("attic"),
			[]string{"attic/attic.go: attic belongs to no room: add it to the rules"},
		},
		{
			"a package at the top", "levin.go", goFile("levin"),
			[]string{"levin.go: . belongs to no room: add it to the rules"},
		},
		{
			"init", "launcher/init.go", text("package launcher\nfunc init() {}\n"),
			[]string{"launcher/init.go: func init(): registries are values that are built in one visible place"},
		},
		{"a method called init", "launcher/init.go", text("package launcher\ntype t struct{}\nfunc (t) init() {}\n"), nil},
		{
			"a drawer", "flow/util/util.go", goFile("util"),
			[]string{"flow/util/util.go: package util in flow/util: name it for what is inside"},
		},
		{
			"a drawer by its folder", "flow/helpers/x.go", goFile("flowhelp"),
			[]string{"flow/helpers/x.go: package flowhelp in flow/helpers: name it for what is inside"},
		},
		{
			"a drawer's test", "cluster/more_test.go", goFile("common_test"),
			[]string{"cluster/more_test.go: package common in cluster: name it for what is inside"},
		},
		{
			"host keys are skipped", "launcher/dial.go", text("package launcher\n// ssh.Insecure" + "IgnoreHostKey()\n"),
			[]string{"launcher/dial.go: Insecure" + "IgnoreHostKey: host keys are pinned, never skipped"},
		},
		{
			"host keys are skipped in a test", "launcher/dial_test.go", text("package launcher\nvar _ = `Insecure" + "IgnoreHostKey`\n"),
			[]string{"launcher/dial_test.go: Insecure" + "IgnoreHostKey: host keys are pinned, never skipped"},
		},
		{
			"a rule about a room that is gone", "terraform/terraform.go", nil,
			[]string{"rules: there is no package in terraform"},
		},
		{
			"an exception that nobody needs", "internal/cli/cli.go", goFile("cli", "provision/local", "provision/ssh", "provision/aws", "provision/gcp", "provision/module"),
			[]string{"rules: internal/cli may import internal/ui, and does not"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := model()
			tree[tt.file] = tt.data
			if tt.data == nil {
				delete(tree, tt.file)
			}
			found, err := levin().check(tree)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(tt.report)
			if diff := cmp.Diff(tt.report, found); diff != "" {
				t.Errorf("reports (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFileThatIsNoGo(t *testing.T) {
	tree := model()
	tree["flow/bad.go"] = text("this is no Go")
	if _, err := levin().check(tree); err == nil {
		t.Error("a file that cannot be read was passed over")
	}
}
