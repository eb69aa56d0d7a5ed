package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// markVariable names the attempt's folder in the environment of all its
// processes, so that they are found again when their supervisor was killed.
const markVariable = "LEVIN_MARK"

// baseEnv is the part of the agent's own environment that work sees: who and
// where it is, its locale, how to reach the network, and where the machine's
// libraries are.
func baseEnv(environ []string) []string {
	names := []string{
		"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR",
		"http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
		"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "GOPROXY", "GONOSUMDB",
		"LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES", "XDG_RUNTIME_DIR",
	}
	prefixes := []string{"LC_", "NVIDIA_", "LEVIN_MACHINE_"}
	var kept []string
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if slices.Contains(names, name) || slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) {
			kept = append(kept, entry)
		}
	}
	return kept
}

// workEnv is the whole environment of an attempt's work; later entries win.
func workEnv(environ []string, r StartRequest, dir callDir) []string {
	env := append(baseEnv(environ), "LEVIN_ATTEMPT="+r.ID)
	env = append(env, r.Env...)
	for _, name := range slices.Sorted(maps.Keys(r.Secrets)) {
		env = append(env, name+"="+r.Secrets[name])
	}
	env = append(env, "LEVIN_RESULT="+dir.result(), markVariable+"="+string(dir))
	return lastWins(env)
}

// lastWins keeps the last entry of each name, in order.
func lastWins(env []string) []string {
	seen := make(map[string]bool, len(env))
	var kept []string
	for _, entry := range slices.Backward(env) {
		name, _, _ := strings.Cut(entry, "=")
		if !seen[name] {
			seen[name] = true
			kept = append(kept, entry)
		}
	}
	slices.Reverse(kept)
	return kept
}

func lookupEnv(env []string, name string) string {
	for _, entry := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// lookProgram finds what an argument list starts: relative to the work folder
// when it has a slash, else on the PATH that the work itself sees.
func lookProgram(name, workDir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		if !filepath.IsAbs(name) {
			name = filepath.Join(workDir, name)
		}
		return name, executable(name)
	}
	err := fs.ErrNotExist
	for _, dir := range filepath.SplitList(lookupEnv(env, "PATH")) {
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(workDir, dir) // "" is the work folder, as for a shell
		}
		full := filepath.Join(dir, name)
		switch e := executable(full); {
		case e == nil:
			return full, nil
		case !errors.Is(e, fs.ErrNotExist):
			err = e
		}
	}
	return "", fmt.Errorf("%s is not on PATH: %w", name, err)
}

func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return fmt.Errorf("%s is not a program: %w", path, fs.ErrPermission)
	}
	return nil
}

// checkStart refuses a request that could never run.
func (r StartRequest) check() error {
	if err := checkLabel("id", r.ID); err != nil {
		return err
	}
	if err := checkLabel("folder", r.Folder); err != nil {
		return err
	}
	if (r.Shell == "") == (len(r.Args) == 0) {
		return badRequest("attempt %s has to have either a shell line or arguments", r.ID)
	}
	if len(r.Args) > 0 && r.Args[0] == "" {
		return badRequest("attempt %s has no program to run", r.ID)
	}
	if r.Timeout < 0 || r.Grace < 0 {
		return badRequest("attempt %s has a negative timeout or grace", r.ID)
	}
	for _, text := range append([]string{r.Setup, r.Shell}, r.Args...) {
		if strings.ContainsRune(text, 0) {
			return badRequest("the command of attempt %s holds a zero byte", r.ID)
		}
	}
	for _, entry := range r.Env {
		if name, value, ok := strings.Cut(entry, "="); !ok || !usableVariable(name, value) {
			return badRequest("%.40q is not an environment entry", name)
		}
	}
	for name, value := range r.Secrets {
		if !usableVariable(name, value) {
			return badRequest("secret %.40q cannot be an environment variable", name)
		}
	}
	for _, pattern := range slices.Concat(r.Outputs, r.Checkpoint) {
		if err := checkPattern(pattern); err != nil {
			return err
		}
	}
	return nil
}

func usableVariable(name, value string) bool {
	return name != "" && !strings.ContainsAny(name, "=\x00") && !strings.ContainsRune(value, 0)
}
