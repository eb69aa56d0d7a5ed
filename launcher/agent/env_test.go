package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWorkEnv(t *testing.T) {
	got := workEnv([]string{"PATH=/bin", "HOME=/h", "SSH_AUTH_SOCK=x", "LC_ALL=C", "AWS_SECRET=x", "LEVIN_MACHINE_PID=1", "LEVIN_HOME=/l", "TZ=UTC", "odd"},
		StartRequest{ID: "c-a2", Env: []string{"A=1", "PATH=/mine", "A=2", "LEVIN_RESULT=elsewhere"}, Secrets: map[string]string{"S": "s", "B": "b"}}, "/calls/c-a2")
	want := []string{"HOME=/h", "LC_ALL=C", "LEVIN_MACHINE_PID=1", "TZ=UTC", "LEVIN_ATTEMPT=c-a2", "PATH=/mine", "A=2", "B=b", "S=s",
		"LEVIN_RESULT=/calls/c-a2/result.json", "LEVIN_MARK=/calls/c-a2"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := lookupEnv(workEnv(nil, StartRequest{ID: "x", Env: []string{"LEVIN_ATTEMPT=2"}}, "/c"), "LEVIN_ATTEMPT"); got != "2" {
		t.Errorf("LEVIN_ATTEMPT is %q", got)
	}
}

func TestLookProgram(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"bin", "bin/sub"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"bin/run": 0o755, "here": 0o755, "bin/text": 0o644} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, path string
		want       string
		err        error
	}{
		{"run", filepath.Join(dir, "none") + ":" + filepath.Join(dir, "bin"), "bin/run", nil},
		{"run", "bin", "bin/run", nil}, // relative to the work folder
		{"here", "", "", fs.ErrNotExist},
		{"here", ":/none", "here", nil},
		{"./here", "", "here", nil},
		{"bin/../here", "", "here", nil},
		{filepath.Join(dir, "here"), "", "here", nil},
		{"text", filepath.Join(dir, "bin"), "", fs.ErrPermission},
		{"sub", filepath.Join(dir, "bin"), "", fs.ErrPermission},
		{"./none", "", "", fs.ErrNotExist},
	} {
		got, err := lookProgram(tt.name, dir, []string{"PATH=" + tt.path})
		if tt.err != nil {
			if !errors.Is(err, tt.err) {
				t.Errorf("%s on %q: %v, want %v", tt.name, tt.path, err, tt.err)
			}
			continue
		}
		if err != nil || got != filepath.Join(dir, tt.want) {
			t.Errorf("%s on %q: %s, %v", tt.name, tt.path, got, err)
		}
	}
}
