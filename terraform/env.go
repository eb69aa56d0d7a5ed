package terraform

import (
	"maps"
	"slices"
	"strings"
)

// passed are the variables of the user's environment that Terraform is given;
// everything else stays outside (DESIGN D11). Credentials of clouds come through
// Providers.Env.
var passed = []string{
	"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "XDG_CONFIG_HOME",
	"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
	"SSL_CERT_FILE", "SSL_CERT_DIR",
	"TF_CLI_CONFIG_FILE", "TF_PLUGIN_CACHE_DIR", "SSH_AUTH_SOCK",
}

// childEnv is the environment of a Terraform process.
func childEnv(from []string, extra map[string]string, tempDir string) map[string]string {
	env := map[string]string{"CHECKPOINT_DISABLE": "1"} // no question to the maker's server at each start
	for _, kv := range from {
		if k, v, ok := strings.Cut(kv, "="); ok && slices.Contains(passed, k) {
			env[k] = v
		}
	}
	if tempDir != "" {
		env["TMPDIR"] = tempDir
	}
	maps.Copy(env, extra)
	return env
}

func envList(env map[string]string) []string {
	var list []string
	for _, k := range sortedKeys(env) {
		list = append(list, k+"="+env[k])
	}
	return list
}

// lookupEnv gives the last value of a variable in a list, or "".
func lookupEnv(env []string, key string) string {
	for _, kv := range slices.Backward(env) {
		if k, v, ok := strings.Cut(kv, "="); ok && k == key {
			return v
		}
	}
	return ""
}
