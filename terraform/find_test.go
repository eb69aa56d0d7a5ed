package terraform_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
)

func TestFind(t *testing.T) {
	const good = `echo '{"terraform_version":"1.7.0"}'`
	const warned = "echo 'There are some problems with the CLI configuration:'; " + good
	for _, c := range []struct {
		name      string
		terraform string // script on PATH, "" for none
		tofu      string
		setting   string
		want      string // name of the binary
		wantError string
	}{
		{name: "terraform before tofu", terraform: good, tofu: good, want: "terraform"},
		{name: "tofu alone", tofu: good, want: "tofu"},
		{name: "tofu when terraform is too old", terraform: `echo '{"terraform_version":"1.5.7"}'`, tofu: good, want: "tofu"},
		{name: "a warning around the JSON", terraform: warned, want: "terraform"},
		{name: "the setting wins", terraform: good, setting: good, want: "mine"},
		{name: "a setting that is too old", setting: `echo '{"terraform_version":"1.2.0"}'`, wantError: "1.6.0 or newer"},
		{name: "a setting that is something else", setting: `echo hello`, wantError: "not an answer of terraform"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			o := terraform.FindOptions{CacheDir: t.TempDir(), Env: []string{"PATH=" + dir + ":/usr/bin:/bin"}}
			if c.terraform != "" {
				script(t, dir, "terraform", c.terraform)
			}
			if c.tofu != "" {
				script(t, dir, "tofu", c.tofu)
			}
			if c.setting != "" {
				o.Path = script(t, t.TempDir(), "mine", c.setting)
			}
			b, err := terraform.Find(t.Context(), o)
			if c.wantError != "" {
				if err == nil || !strings.Contains(err.Error(), c.wantError) || cluster.KindOf(err) != cluster.BadInput {
					t.Errorf("error: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Base(b.Path) != c.want || b.Tofu != (c.want == "tofu") {
				t.Errorf("found %+v", b)
			}
		})
	}
}

// The version is asked for once, until the file changes.
func TestFindRemembers(t *testing.T) {
	dir, count := t.TempDir(), filepath.Join(t.TempDir(), "count")
	body := `echo x >> ` + count + `; echo '{"terraform_version":"1.7.0"}'`
	script(t, dir, "terraform", body)
	o := terraform.FindOptions{CacheDir: t.TempDir(), Env: []string{"PATH=" + dir + ":/usr/bin:/bin"}}
	find := func(want int) {
		t.Helper()
		if _, err := terraform.Find(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if b, _ := os.ReadFile(count); strings.Count(string(b), "x") != want {
			t.Errorf("asked %d times, want %d", strings.Count(string(b), "x"), want)
		}
	}
	find(1)
	find(1)
	script(t, dir, "terraform", body+"\n# changed")
	find(2)
}

// Without a binary, the one that was fetched before is taken.
func TestFindFetched(t *testing.T) {
	cache := t.TempDir()
	dir := filepath.Join(cache, "terraform", "bin", "1.11.4")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	want := script(t, dir, "terraform", `echo '{"terraform_version":"1.11.4"}'`)
	b, err := terraform.Find(t.Context(), terraform.FindOptions{CacheDir: cache, Env: []string{"PATH=" + t.TempDir()}})
	if err != nil || b.Path != want {
		t.Errorf("found %+v, %v", b, err)
	}
}
