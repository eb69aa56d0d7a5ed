package terraform

import (
	"embed"
	"io/fs"
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

func moduleFiles(name string) fs.FS {
	files, err := fs.Sub(embedded, "modules/"+name)
	if err != nil {
		panic(err) // only for a name that is no valid path
	}
	return files
}
