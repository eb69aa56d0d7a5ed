package terraform

import (
	"maps"
	"slices"
	"strings"
)

// passed are the variables of the user's environment that Terraform is given;
// everything else stays outside (D11): credentials of clouds come through
// Providers.Env, and Levin's own secrets never.
func passed(key string) bool {
	switch strings.ToUpper(key) {
	case "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY":
		return true
	}
	switch key {
	case "PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ",
		"SSL_CERT_FILE", "SSL_CERT_DIR",
		"XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_DATA_DIRS", // where Terraform looks for providers
		"TF_CLI_CONFIG_FILE", "TF_REGISTRY_CLIENT_TIMEOUT", "TF_REGISTRY_DISCOVERY_RETRY":
		return true
	}
	return strings.HasPrefix(key, "LC_") || strings.HasPrefix(key, "TF_TOKEN_")
}

// childEnv is the environment of a Terraform process: what is passed of the
// user's, and what is added to it.
func childEnv(from []string, tempDir string, added ...map[string]string) map[string]string {
	env := map[string]string{"CHECKPOINT_DISABLE": "1"} // no question to the maker's server at each start
	for _, kv := range from {
		if k, v, ok := strings.Cut(kv, "="); ok && passed(k) {
			env[k] = v
		}
	}
	if tempDir != "" {
		env["TMPDIR"] = tempDir
	}
	for _, more := range added {
		maps.Copy(env, more)
	}
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
