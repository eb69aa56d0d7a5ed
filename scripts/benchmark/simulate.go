package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/launcher/agent"
)

// simulateVerb makes this program a host with any number of agents on it that
// only pretend to work. It is a process of its own, so that the controller's
// memory and time are the controller's.
const simulateVerb = "simulated-agents"

// simulated says where it listens.
type simulated struct {
	Port    int    `json:"port"`
	HostKey string `json:"host_key"` // authorized_keys form
}

// simulate serves the owner of a public key until stdin ends.
func simulate(clientKey string, stdin io.Reader, stdout io.Writer) error {
	allowed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(clientKey))
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "simulated-")
	if err != nil {
		return err
	}
	hostKey, err := newKey(dir + "/host")
	os.RemoveAll(dir) // the key is in memory
	if err != nil {
		return err
	}
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if string(k.Marshal()) != string(allowed.Marshal()) {
			return nil, fmt.Errorf("not accepted")
		}
		return nil, nil
	}}
	config.AddHostKey(hostKey.signer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	agents := newAgents()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go agents.login(conn, config)
		}
	}()
	go agents.server.Serve(agents.channels)
	if err := json.NewEncoder(stdout).Encode(simulated{listener.Addr().(*net.TCPAddr).Port, hostKey.public}); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, stdin)
	return err // and all ends with the process
}

// agents answers for every agent alike. Attempts differ by their ids.
type agents struct {
	server   *http.Server
	channels *channels

	mu       sync.Mutex
	manifest string                   // digest of what was last shipped; all ship the same
	stops    map[string]chan struct{} // by attempt; closed when it was told to stop
}

func newAgents() *agents {
	a := &agents{channels: &channels{conns: make(chan net.Conn)}, stops: map[string]chan struct{}{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/lease", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /v1/shutdown", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /v1/sync", a.sync)
	mux.HandleFunc("POST /v1/sync/{folder}/same", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, agent.SameAnswer{}) // a new machine holds nothing yet
	})
	mux.HandleFunc("POST /v1/sync/{folder}/commit", func(w http.ResponseWriter, _ *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		answer(w, agent.SyncDone{Digest: a.manifest})
	})
	mux.HandleFunc("POST /v1/calls", a.start)
	mux.HandleFunc("GET /v1/calls/{id}", func(w http.ResponseWriter, r *http.Request) { answer(w, a.status(r)) })
	mux.HandleFunc("GET /v1/calls/{id}/log", a.log)
	mux.HandleFunc("GET /v1/calls/{id}/wait", a.wait)
	mux.HandleFunc("POST /v1/calls/{id}/stop", a.stop)
	a.server = &http.Server{Handler: mux}
	return a
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(v)
}

func (a *agents) sync(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "zstd" {
		zr, err := zstd.NewReader(r.Body, zstd.WithDecoderConcurrency(1))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer zr.Close()
		body = zr
	}
	var ask agent.SyncRequest
	if err := json.NewDecoder(body).Decode(&ask); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.mu.Lock()
	a.manifest = agent.ManifestDigest(ask.Entries)
	a.mu.Unlock()
	answer(w, agent.SyncNeed{Need: []agent.Need{}})
}

func (a *agents) start(w http.ResponseWriter, r *http.Request) {
	var ask agent.StartRequest
	if err := json.NewDecoder(r.Body).Decode(&ask); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.stopOf(ask.ID)
	answer(w, agent.Status{ID: ask.ID, Phase: agent.PhaseRun, StartedAt: time.Now()})
}

// stopOf gives the channel of an attempt.
func (a *agents) stopOf(id string) chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.stops[id] == nil {
		a.stops[id] = make(chan struct{})
	}
	return a.stops[id]
}

func (a *agents) status(r *http.Request) agent.Status {
	st := agent.Status{ID: r.PathValue("id"), Phase: agent.PhaseRun}
	select {
	case <-a.stopOf(st.ID):
		st.Phase = agent.PhaseExited
		st.Exit = &agent.Exit{Code: 143, At: time.Now(), Phase: agent.PhaseRun, Stopped: true}
	default:
	}
	return st
}

func (a *agents) wait(w http.ResponseWriter, r *http.Request) {
	select {
	case <-a.stopOf(r.PathValue("id")):
		answer(w, a.status(r))
	case <-r.Context().Done():
	}
}

func (a *agents) log(w http.ResponseWriter, r *http.Request) {
	w.WriteHeader(http.StatusOK)
	http.NewResponseController(w).Flush()
	select {
	case <-a.stopOf(r.PathValue("id")):
	case <-r.Context().Done():
	}
}

func (a *agents) stop(w http.ResponseWriter, r *http.Request) {
	stop := a.stopOf(r.PathValue("id"))
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-stop:
	default:
		close(stop)
	}
	w.WriteHeader(http.StatusNoContent)
}

// login serves one SSH connection.
func (a *agents) login(conn net.Conn, config *ssh.ServerConfig) {
	_, opened, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		conn.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	for open := range opened {
		channel, requests, err := open.Accept()
		if err == nil {
			go a.exec(channel, requests)
		}
	}
}

// exec pretends to run one of the two commands that a controller sends: the
// one that starts an agent, and the one that joins a channel to it.
func (a *agents) exec(channel ssh.Channel, requests <-chan *ssh.Request) {
	for r := range requests {
		var command struct{ Line string }
		ok := r.Type == "exec" && ssh.Unmarshal(r.Payload, &command) == nil
		if r.WantReply {
			r.Reply(ok, nil)
		}
		switch {
		case !ok:
		case strings.Contains(command.Line, "levin-connecting"):
			io.WriteString(channel, "levin-connecting\n")
			a.channels.conns <- channelConn{channel}
		default:
			go startAgent(channel)
		}
	}
}

// startAgent plays the start script: it says what machine this is, and takes any
// digest for that of the agent that is here.
func startAgent(channel ssh.Channel) {
	defer channel.Close()
	machine := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	fmt.Fprintf(channel, "levin-machine Linux %s\n", machine)
	digest, err := bufio.NewReader(channel).ReadString('\n')
	if err != nil {
		return
	}
	json.NewEncoder(channel).Encode(agent.Info{
		Protocol: agent.ProtocolVersion, Digest: "sha256:" + strings.TrimSpace(digest),
		OS: "linux", Arch: runtime.GOARCH, PID: os.Getpid(), Started: time.Now(), Now: time.Now(),
	})
	channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{0}))
}

// channels is a listener whose connections are SSH channels.
type channels struct{ conns chan net.Conn }

func (c *channels) Accept() (net.Conn, error) { return <-c.conns, nil }
func (c *channels) Close() error              { return nil }
func (c *channels) Addr() net.Addr            { return &net.UnixAddr{Name: "ssh"} }

// channelConn is an SSH channel as a connection. Nobody waits for its deadlines:
// the process ends with the measure.
type channelConn struct{ ssh.Channel }

func (channelConn) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "ssh"} }
func (channelConn) RemoteAddr() net.Addr             { return &net.UnixAddr{Name: "ssh"} }
func (channelConn) SetDeadline(time.Time) error      { return nil }
func (channelConn) SetReadDeadline(time.Time) error  { return nil }
func (channelConn) SetWriteDeadline(time.Time) error { return nil }
