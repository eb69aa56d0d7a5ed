package machine

import (
	"strings"
	"syscall"
)

// passed are the variables of the controller that a machine is given: what
// describes the host and its way to the network, and nothing that may be the
// controller's own business. A name that ends in * stands for all that begin so.
const passed = `PATH LANG LANGUAGE LC_* TZ USER LOGNAME SHELL
	LD_LIBRARY_PATH DYLD_LIBRARY_PATH CUDA_* NVIDIA_*
	HTTP_PROXY HTTPS_PROXY NO_PROXY ALL_PROXY http_proxy https_proxy no_proxy all_proxy
	SSL_CERT_FILE SSL_CERT_DIR`

// accepted are the variables that a client may set over SSH.
const accepted = `LANG LANGUAGE LC_* TZ`

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// acceptable reports whether a client may set the variable.
func acceptable(name string) bool { return listed(accepted, name) }

// inherited picks what a machine is given from the controller's environment.
func inherited(environ []string) []string {
	env := []string{"PATH=" + defaultPath}
	for _, v := range environ {
		if name, _, ok := strings.Cut(v, "="); ok && listed(passed, name) {
			env = append(env, v)
		}
	}
	return lastOfEach(env)
}

func listed(list, name string) bool {
	for entry := range strings.FieldsSeq(list) {
		prefix, open := strings.CutSuffix(entry, "*")
		if entry == name || open && strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// lastOfEach keeps the last value of each variable, at the place of its first.
func lastOfEach(env []string) []string {
	at := map[string]int{}
	var out []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		if i, seen := at[name]; seen {
			out[i] = v
			continue
		}
		at[name] = len(out)
		out = append(out, v)
	}
	return out
}

// The signals of RFC 4254, 6.10, by their names there.
func signalNamed(name string) (syscall.Signal, bool) {
	for _, s := range sshSignals() {
		if s.name == name {
			return s.signal, true
		}
	}
	return 0, false
}

func signalName(sig syscall.Signal) string {
	for _, s := range sshSignals() {
		if s.signal == sig {
			return s.name
		}
	}
	return ""
}

type sshSignal struct {
	name   string
	signal syscall.Signal
}

func sshSignals() []sshSignal {
	return []sshSignal{
		{"ABRT", syscall.SIGABRT}, {"ALRM", syscall.SIGALRM}, {"FPE", syscall.SIGFPE},
		{"HUP", syscall.SIGHUP}, {"ILL", syscall.SIGILL}, {"INT", syscall.SIGINT},
		{"KILL", syscall.SIGKILL}, {"PIPE", syscall.SIGPIPE}, {"QUIT", syscall.SIGQUIT},
		{"SEGV", syscall.SIGSEGV}, {"TERM", syscall.SIGTERM},
		{"USR1", syscall.SIGUSR1}, {"USR2", syscall.SIGUSR2},
	}
}
