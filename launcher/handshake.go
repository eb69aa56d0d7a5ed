package launcher

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/cluster"
)

// handshakeTimeout bounds the time from an open byte stream to an authenticated
// connection, where the caller has no shorter one. x/crypto bounds nothing of it
// by itself.
const handshakeTimeout = 30 * time.Second

// handshake turns conn into an authenticated SSH connection to t, within patience.
// It owns conn: on error it is closed. A host key that is not the pinned one is a Failure
// Untrusted; a server that takes none of our keys is a Failure Auth.
func handshake(ctx context.Context, conn *wireConn, t cluster.Target, authSock string, patience time.Duration) (*ssh.Client, error) {
	client, err := shakeHands(ctx, conn, t, authSock, patience)
	if err != nil {
		conn.Close()
		return nil, err
	}
	conn.serve(client)
	return client, nil
}

func shakeHands(ctx context.Context, conn *wireConn, t cluster.Target, authSock string, patience time.Duration) (*ssh.Client, error) {
	trust, err := hostKeys(t)
	if err != nil {
		return nil, err
	}
	creds, err := credentialsFor(ctx, t, authSock)
	if err != nil {
		return nil, err
	}
	defer creds.Close()

	var refused error // what our own check said; x/crypto may wrap it beyond recognition
	cfg := &ssh.ClientConfig{
		Config:            ssh.Config{Ciphers: ciphers()},
		User:              t.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(creds.signers...)},
		HostKeyAlgorithms: trust.algorithms,
		ClientVersion:     "SSH-2.0-Levin",
		HostKeyCallback: func(host string, remote net.Addr, key ssh.PublicKey) error {
			if refused = trust.check(host, remote, key); refused == nil {
				conn.shown.Store(new(authorized(key)))
			}
			return refused
		},
	}

	ctx, cancel := context.WithTimeoutCause(ctx, patience,
		fmt.Errorf("the SSH handshake with %s took more than %s", address(t), patience))
	defer cancel()
	// ssh-agent may wait for somebody to touch a key: it has to go as well.
	stop := context.AfterFunc(ctx, func() { conn.Close(); creds.Close() })
	sshConn, channels, requests, err := ssh.NewClientConn(conn, address(t), cfg)
	switch {
	case !stop():
		if err == nil {
			sshConn.Close()
		}
		return nil, context.Cause(ctx)
	case refused != nil:
		return nil, refused
	case err != nil && strings.Contains(err.Error(), "unable to authenticate"):
		return nil, authFailure(t, creds, err)
	case err != nil:
		return nil, fmt.Errorf("SSH handshake with %s: %w", address(t), err)
	}
	return ssh.NewClient(sshConn, channels, requests), nil
}

// ciphers are what we offer, fastest first on machines with AES instructions,
// which is every machine that Levin is likely to meet.
func ciphers() []string {
	return []string{
		ssh.CipherAES128GCM, ssh.CipherAES256GCM, ssh.CipherChaCha20Poly1305,
		ssh.CipherAES128CTR, ssh.CipherAES192CTR, ssh.CipherAES256CTR,
	}
}

func authFailure(t cluster.Target, creds *credentials, err error) error {
	return &cluster.Failure{
		Kind:  cluster.Auth,
		What:  fmt.Sprintf("%s does not accept user %q with any key that was offered", address(t), t.User),
		Words: "offered " + creds.String(),
		Next:  "Check the user name, and that the public key is in authorized_keys on the machine.",
		Err:   err,
	}
}

// ignoreClosed drops the errors that only say that something was closed before.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}
