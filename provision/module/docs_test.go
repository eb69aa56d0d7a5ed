package module_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision/module"
)

// The module and the offers that docs/clouds.md shows are ones that can be used.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../docs/clouds.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string) string {
		found := regexp.MustCompile("(?ms)^```"+kind+"\n(.*?)^```$").FindAllStringSubmatch(string(text), -1)
		if len(found) != 1 {
			t.Fatalf("there are %d blocks of %s", len(found), kind)
		}
		return found[0][1]
	}
	s := write(t, map[string]string{
		"main.tf": block("hcl"), "offers.csv": block("csv"),
		"variables.tf": variables + `
variable "group_id" { type = string }
variable "region" { type = string }
variable "machines" {
  type = map(object({
    type  = string
    extra = object({ host_key = string, host_key_public = string, unreached_seconds = number })
  }))
}`,
	})
	c, err := module.New(config(t, s, nil))
	if err != nil {
		t.Fatal(err)
	}
	offers, err := c.Offers(t.Context(), configs.Resources{})
	if err != nil || len(offers) != 3 {
		t.Fatalf("%v, %v", offers, err)
	}
	m, _, err := c.Module(t.Context(), offers[0].Region)
	if err != nil || !m.HostKeys || m.Firewall || m.Requires["lab"].Version != "~> 1.4" {
		t.Errorf("%+v, %v", m, err)
	}
}
