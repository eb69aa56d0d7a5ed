package cluster

// Target is how a machine is reached by SSH: everything a dialer needs.
type Target struct {
	Address      string // host name or IP
	Port         int    // of the SSH server
	User         string
	HostKeys     []string // authorized_keys form: any of these is accepted, nothing else
	KnownHosts   []string // known_hosts files to consult when HostKeys is empty
	KeyFiles     []string // private keys to try, in order
	Agent        bool     // also try the keys of ssh-agent (authentication only; never forwarded)
	Jumps        []Target // proxy jumps, in the order they are passed
	ProxyCommand string   // a shell line written by the user, placeholders filled in
	Home         string   // folder on the machine for the agent, relative to the user's home; "" is ".levin-agent"
	// PowerOff says that the agent may end the whole machine when its lease has run
	// out and no work is left. False for own hosts, whose agent only ends itself.
	PowerOff bool
	// Notice names the metadata service that tells the machine that it is about to be
	// taken back: "aws", "gcp", or "" when there is none (not a spot machine).
	Notice string
	// Rotate says that the host key came through the cloud's hands (user data) and is
	// replaced over the first connection.
	Rotate bool
	// Expiry says that the machine powers itself off at a time that was set when it
	// booted (its unit levin-expiry), and that the agent can move that time.
	Expiry bool
}
