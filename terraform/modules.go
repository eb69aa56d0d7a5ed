package terraform

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

//go:embed modules/*/*.tf
var embedded embed.FS

// LocalModule is the module of the local cloud. Its provider is served by this
// process (Providers.Reattach under ProviderSource).
func LocalModule() Module {
	return Module{
		Name:     "local",
		Files:    moduleFiles("local"),
		Requires: map[string]Requirement{"levin": {Source: ProviderSource, InProcess: true}},
	}
}

// ProviderSource is the address under which the provider inside the levin binary
// is known.
const ProviderSource = "levinrun/levin"

// SSHModule is the module of own hosts. It needs no provider beyond the one that
// is built into Terraform.
func SSHModule() Module {
	return Module{Name: "ssh", Files: moduleFiles("ssh")}
}

// AWSModule is the module of AWS: EC2 instances. Whoever uses it gives the
// provider's region, and its credentials by Providers.Env. Its variables are
// network, subnets, private, role and disk_type, all optional; what it reads of
// MachineInput.Extra is described in modules/aws/variables.tf.
//
// The oldest version of the provider is the one whose schema the module is checked
// against.
func AWSModule() Module {
	return Module{
		Name:     "aws",
		Files:    moduleFiles("aws"),
		Requires: map[string]Requirement{"aws": {Source: "hashicorp/aws", Version: ">= 5.31, < 7.0"}},
		HostKeys: true,
		Firewall: true,
	}
}

// GCPModule is the module of GCP: Compute Engine VMs. Whoever uses it gives the
// provider's project and region, and its credentials by Providers.Env. It has the
// same variables as AWSModule.
func GCPModule() Module {
	return Module{
		Name:     "gcp",
		Files:    moduleFiles("gcp"),
		Requires: map[string]Requirement{"google": {Source: "hashicorp/google", Version: ">= 7.0, < 8.0"}},
		HostKeys: true,
		Firewall: true,
	}
}

func moduleFiles(name string) fs.FS {
	files, err := fs.Sub(embedded, "modules/"+name)
	if err != nil {
		panic(err) // only for a name that is no valid path
	}
	return files
}

// sources gives the module's files by slash-separated name: all of its folder, as
// a user's own module may have templates, scripts and modules of its own. What
// Terraform itself leaves in a folder, and hidden files, are no part of it.
func (m Module) sources() (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(m.Files, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case strings.HasPrefix(e.Name(), ".") && e.IsDir():
			return fs.SkipDir
		case e.IsDir(), strings.HasPrefix(e.Name(), "."), strings.Contains(e.Name(), ".tfstate"), strings.HasSuffix(e.Name(), ".tfvars"):
			return nil
		}
		files[name], err = fs.ReadFile(m.Files, name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading module %s: %w", m.Name, err)
	}
	return files, nil
}

// declares reports whether the module has a variable of that name.
func (m Module) declares(variable string) (bool, error) {
	files, err := m.sources()
	if err != nil {
		return false, err
	}
	for _, name := range sortedKeys(files) {
		if path.Ext(name) != ".tf" || path.Dir(name) != "." {
			continue
		}
		f, diags := hclsyntax.ParseConfig(files[name], name, hcl.InitialPos)
		if diags.HasErrors() {
			return false, fmt.Errorf("reading module %s: %w", m.Name, diags)
		}
		for _, block := range f.Body.(*hclsyntax.Body).Blocks {
			if block.Type == "variable" && len(block.Labels) == 1 && block.Labels[0] == variable {
				return true, nil
			}
		}
	}
	return false, nil
}
