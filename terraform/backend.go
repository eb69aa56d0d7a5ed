package terraform

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// groupMark stands for the group in a backend's settings, and runMark for its run.
const (
	groupMark = "${group}"
	runMark   = "${run}"
)

// secretSettings are settings of Terraform's backends that are credentials. They
// would be written into the root's files, so they are refused: each backend reads
// them from the environment too.
func secretSettings() []string {
	return []string{
		"access_key", "secret_key", "token", "security_token", "session_token", // s3, cos, oss, consul
		"password", "client_private_key_pem", // http
		"credentials", "access_token", "encryption_key", // gcs
		"sas_token", "client_secret", "client_certificate_password", "oidc_token", "oidc_request_token", // azurerm
		"client_key", // kubernetes
		"secret_id",  // cos
	}
}

// passwordInText finds a password in a URL (https://user:password@host) or in the
// connection line of a database (password=…).
var passwordInText = regexp.MustCompile(`://[^/@\s"]*:[^/@\s"]+@|(?i:\bpassword\s*=)`)

// check refuses a backend that is none, that would keep a credential in a file,
// or that is the same for two groups, whose states would overwrite each other.
func (b Backend) check() error {
	if !hclsyntax.ValidIdentifier(b.Type) {
		return fmt.Errorf("%q is no name of a backend", b.Type)
	}
	for _, name := range sortedKeys(b.Config) {
		if slices.Contains(secretSettings(), name) {
			return fmt.Errorf("backend %s: %s is a credential and would be written into a file: give it by Terraform's environment", b.Type, name)
		}
	}
	text, err := json.Marshal(b.Config)
	if err != nil {
		return fmt.Errorf("backend %s: %w", b.Type, err)
	}
	if passwordInText.Match(text) {
		return fmt.Errorf("backend %s: a setting holds a password and would be written into a file: give it by Terraform's environment", b.Type)
	}
	if !strings.Contains(string(text), groupMark) {
		return fmt.Errorf("backend %s: no setting holds %s, so that all groups would share one state", b.Type, groupMark)
	}
	return nil
}

// write puts the backend of a group into the terraform block.
func (b Backend) write(terraform *hclwrite.Body, run, group string) error {
	marks := strings.NewReplacer(runMark, run, groupMark, group)
	terraform.AppendNewline()
	return setAll(terraform.AppendNewBlock("backend", []string{b.Type}).Body(), replaced(b.Config, marks).(map[string]any))
}

// replaced replaces in all strings within a value of JSON's types.
func replaced(value any, with *strings.Replacer) any {
	switch v := value.(type) {
	case string:
		return with.Replace(v)
	case []string:
		all := make([]string, len(v))
		for i := range v {
			all[i] = with.Replace(v[i])
		}
		return all
	case []any:
		all := make([]any, len(v))
		for i := range v {
			all[i] = replaced(v[i], with)
		}
		return all
	case map[string]any:
		all := make(map[string]any, len(v))
		for key := range v {
			all[key] = replaced(v[key], with)
		}
		return all
	}
	return value
}

// readBackend gives the text of the block that says where the root in dir keeps
// its state; empty when that is a file beside it, or when there is no root.
func readBackend(dir string) (string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil {
		return "", err
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		f, diags := hclsyntax.ParseConfig(src, filepath.Base(file), hcl.InitialPos)
		if diags.HasErrors() {
			return "", diags
		}
		for _, block := range f.Body.(*hclsyntax.Body).Blocks {
			if block.Type != "terraform" {
				continue
			}
			if at := backendBlock(block); at != nil {
				return string(at.Range().SliceBytes(src)) + string(src[at.OpenBraceRange.Start.Byte:at.CloseBraceRange.End.Byte]), nil
			}
		}
	}
	return "", nil
}

// backendBlock finds the block of a terraform block that says where the state is.
func backendBlock(terraform *hclsyntax.Block) *hclsyntax.Block {
	for _, block := range terraform.Body.Blocks {
		if block.Type == "backend" || block.Type == "cloud" {
			return block
		}
	}
	return nil
}
