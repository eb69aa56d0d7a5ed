package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/levinrun/levin/cluster"
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// readSecrets turns --secret flags into values: NAME reads the variable NAME of
// Levin's own environment, NAME=@FILE reads a file (one trailing newline is
// dropped). A value on the command line is refused: command lines are public.
func (w World) readSecrets(flags []string) (map[string]string, error) {
	secrets := map[string]string{}
	for _, flag := range flags {
		name, source, hasSource := strings.Cut(flag, "=")
		if !envName.MatchString(name) || strings.HasPrefix(name, "LEVIN_") {
			return nil, usagef("--secret %q: not a name for an environment variable (letters, digits and _, not beginning with LEVIN_)", name)
		}
		value, err := w.readSecret(name, source, hasSource)
		if err != nil {
			return nil, err
		}
		if value == "" {
			return nil, usagef("--secret %s: the value is empty", name)
		}
		secrets[name] = value
	}
	return secrets, nil
}

func (w World) readSecret(name, source string, hasSource bool) (string, error) {
	if !hasSource {
		value, ok := w.lookupEnv(name)
		if !ok {
			return "", usagef("--secret %s: no variable %s is set here\n  set it, or give a file: --secret %s=@FILE", name, name, name)
		}
		return value, nil
	}
	file, isFile := strings.CutPrefix(source, "@")
	if !isFile {
		return "", usagef("--secret %s=…: a value on the command line can be read by everyone on this machine\n  put it into the variable %s and say --secret %s, or give a file: --secret %s=@FILE", name, name, name, name)
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(w.Dir, file)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", &cluster.Failure{Kind: cluster.BadInput, What: fmt.Sprintf("could not read the secret %s", name), Err: err}
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}
