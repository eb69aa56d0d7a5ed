// Package sshtest is an SSH server for tests: on loopback, with keys of its own,
// running real commands in a home folder of its own.
package sshtest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/cluster"
)

// Server is a running server. It ends with its test.
type Server struct {
	Addr    string // 127.0.0.1:port
	Home    string // $HOME of its commands
	HostKey ssh.PublicKey
	KeyFile string // the private key that it accepts
	User    string
	Before  string // put before each command, as a login shell's start-up file would be; set it before connecting

	listener net.Listener
	config   *ssh.ServerConfig
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	execs []string
}

// New starts a server. Env is added to the environment of its commands.
func New(t testing.TB, env ...string) *Server {
	t.Helper()
	keyFile, clientKey := NewKey(t)
	_, hostPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	hostKey, err := ssh.NewSignerFromKey(hostPrivate)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Home: t.TempDir(), HostKey: hostKey.PublicKey(), KeyFile: keyFile, User: "levin", conns: map[net.Conn]bool{}}
	s.config = &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != s.User || string(key.Marshal()) != string(clientKey.Marshal()) {
			return nil, fmt.Errorf("not accepted")
		}
		return nil, nil
	}}
	s.config.AddHostKey(hostKey)
	if s.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.Addr = s.listener.Addr().String()
	env = append([]string{"HOME=" + s.Home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir()}, env...)
	s.wg.Go(func() { s.accept(env) })
	t.Cleanup(func() {
		s.listener.Close()
		s.DropAll()
		s.wg.Wait()
	})
	return s
}

// Target is how to reach the server.
func (s *Server) Target() cluster.Target {
	host, port, _ := net.SplitHostPort(s.Addr)
	t := cluster.Target{Address: host, User: s.User, KeyFiles: []string{s.KeyFile}, HostKeys: []string{AuthorizedKey(s.HostKey)}}
	fmt.Sscan(port, &t.Port)
	return t
}

// DropAll cuts every connection.
func (s *Server) DropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Close()
	}
}

// Execs are the commands that were run so far.
func (s *Server) Execs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.execs...)
}

func (s *Server) accept(env []string) {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = true
		s.mu.Unlock()
		s.wg.Go(func() {
			s.serve(c, env)
			c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

func (s *Server) serve(c net.Conn, env []string) {
	conn, channels, requests, err := ssh.NewServerConn(c, s.config)
	if err != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { ssh.DiscardRequests(requests) })
	for ch := range channels {
		switch ch.ChannelType() {
		case "session":
			channel, reqs, err := ch.Accept()
			if err == nil {
				wg.Go(func() { (&session{server: s, channel: channel, env: env}).serve(reqs) })
			}
		case "direct-tcpip":
			wg.Go(func() { forward(ch) })
		default:
			ch.Reject(ssh.UnknownChannelType, "not here")
		}
	}
	conn.Wait()
	wg.Wait()
}

func forward(ch ssh.NewChannel) {
	var to struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(ch.ExtraData(), &to); err != nil {
		ch.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	c, err := net.Dial("tcp", net.JoinHostPort(to.Host, fmt.Sprint(to.Port)))
	if err != nil {
		ch.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	channel, reqs, err := ch.Accept()
	if err != nil {
		c.Close()
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { ssh.DiscardRequests(reqs) })
	pipe(channel, c.(*net.TCPConn))
	wg.Wait()
}

// NewKey makes a key pair; the private half is in a file in OpenSSH form.
func NewKey(t testing.TB) (file string, public ssh.PublicKey) {
	t.Helper()
	return newKey(t, "")
}

// NewEncryptedKey is NewKey with a passphrase.
func NewEncryptedKey(t testing.TB, passphrase string) (file string, public ssh.PublicKey) {
	t.Helper()
	return newKey(t, passphrase)
}

func newKey(t testing.TB, passphrase string) (string, ssh.PublicKey) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	var block *pem.Block
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(private, "test")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "test", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, signer.PublicKey()
}

// AuthorizedKey gives a key in the form of authorized_keys.
func AuthorizedKey(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}
