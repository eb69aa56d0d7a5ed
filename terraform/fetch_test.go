package terraform

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/levinrun/levin/cluster"
)

// Where there is neither a binary nor anybody to fetch one from, the error says
// how to get one, and nothing half-made stays.
func TestFindNothing(t *testing.T) {
	nobody := httptest.NewServer(http.NotFoundHandler())
	defer nobody.Close()
	cache := t.TempDir()
	old := t.TempDir()
	if err := os.WriteFile(filepath.Join(old, "terraform"), []byte("#!/bin/sh\necho '{\"terraform_version\":\"1.5.7\"}'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ path, want string }{
		{t.TempDir(), "there is no terraform or tofu on PATH, and"},
		{old, "1.5.7; 1.6.0 or newer is needed"},
	} {
		_, err := Find(t.Context(), FindOptions{CacheDir: cache, Env: []string{"PATH=" + c.path}, releases: nobody.URL})
		if cluster.KindOf(err) != cluster.Provisioning {
			t.Fatalf("error: %v", err)
		}
		for _, want := range []string{c.want, "could not be fetched", "install Terraform", "settings"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q is not in: %v", want, err)
			}
		}
	}
	left, err := filepath.Glob(filepath.Join(cache, "terraform", "bin", "*-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
