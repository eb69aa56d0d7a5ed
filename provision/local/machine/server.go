package machine

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	handshakeLimit = 30 * time.Second      // how long a client may take to show its key
	tidyAfter      = time.Second           // without a client, before memory is given back
	fullPause      = 50 * time.Millisecond // before the next try when descriptors have run out
)

// server is the machine's SSH server.
type server struct {
	allowed []byte                     // the only client key that is let in
	hostKey atomic.Pointer[ssh.Signer] // of connections from now on
	procs   *processes
	home    string
	env     []string
	onConn  func(delta int) // a client that showed the right key came or went

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	authed int
	tidy   *time.Timer
	closed bool
	wg     sync.WaitGroup
}

// newServer makes a server that lets in the given client key and nothing else.
func newServer(authorized string, hostKey ssh.Signer, procs *processes, home string, env []string) (*server, error) {
	allowed, _, _, _, err := ssh.ParseAuthorizedKey([]byte(authorized))
	if err != nil {
		return nil, fmt.Errorf("the client key is not in authorized_keys form: %w", err)
	}
	s := &server{
		allowed: allowed.Marshal(),
		procs:   procs, home: home, env: env,
		onConn: func(int) {},
		conns:  map[net.Conn]struct{}{},
		tidy:   time.AfterFunc(tidyAfter, debug.FreeOSMemory),
	}
	s.tidy.Stop()
	s.hostKey.Store(&hostKey)
	return s, nil
}

// config is what one connection is served with.
func (s *server) config() *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-levin",
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if subtle.ConstantTimeCompare(key.Marshal(), s.allowed) == 1 {
				return nil, nil
			}
			return nil, errors.New("this key is not let in")
		},
	}
	c.AddHostKey(*s.hostKey.Load())
	return c
}

// serve accepts connections until the listener is closed.
func (s *server) serve(listener net.Listener) error {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			if !errors.Is(err, syscall.EMFILE) && !errors.Is(err, syscall.ENFILE) {
				return err
			}
			time.Sleep(fullPause)
			continue
		}
		if !s.add(conn) {
			conn.Close()
			continue
		}
		go func() {
			defer s.wg.Done()
			defer s.remove(conn)
			s.connection(conn)
		}()
	}
}

func (s *server) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.conns[conn] = struct{}{}
	s.wg.Add(1)
	return true
}

func (s *server) remove(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// close drops every connection and waits for what served it.
func (s *server) close() {
	s.mu.Lock()
	s.closed = true
	s.tidy.Stop()
	for conn := range s.conns {
		conn.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
}

// connection serves one client from the handshake to the end.
func (s *server) connection(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(handshakeLimit))
	client, channels, requests, err := ssh.NewServerConn(conn, s.config())
	if err != nil {
		return
	}
	conn.SetDeadline(time.Time{})
	s.countAuthed(1)
	defer s.countAuthed(-1)

	var wg sync.WaitGroup
	defer wg.Wait()
	defer client.Close()
	// Keepalives are among these; any answer tells the client that we live.
	wg.Go(func() { ssh.DiscardRequests(requests) })
	for ch := range channels {
		switch ch.ChannelType() {
		case "session":
			wg.Go(func() { s.session(ch) })
		case "direct-tcpip":
			wg.Go(func() { forward(ch) })
		default:
			ch.Reject(ssh.UnknownChannelType, "only sessions and forwarding to loopback are served")
		}
	}
}

// countAuthed keeps count of clients. A while after the last one has gone, the
// memory their traffic needed is given back: a machine is idle most of its life.
func (s *server) countAuthed(delta int) {
	s.onConn(delta)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.authed += delta
	if s.authed == 0 && !s.closed {
		s.tidy.Reset(tidyAfter)
	} else {
		s.tidy.Stop()
	}
}
