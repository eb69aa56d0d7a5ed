package machine

import (
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// forward serves direct-tcpip (RFC 4254, 7.2): a stream to a port on this
// machine's loopback and nowhere else.
func forward(request ssh.NewChannel) {
	var to struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(request.ExtraData(), &to); err != nil {
		request.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	if ip := net.ParseIP(to.Host); to.Host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		request.Reject(ssh.Prohibited, "only loopback can be reached through this machine")
		return
	}
	addr := net.JoinHostPort(to.Host, strconv.FormatUint(uint64(to.Port), 10))
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		request.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer conn.Close()
	ch, requests, err := request.Accept()
	if err != nil {
		return
	}
	var copies, rest sync.WaitGroup
	rest.Go(func() {
		ssh.DiscardRequests(requests)
		conn.Close() // the channel, or the connection under it, is gone
	})
	copies.Go(func() {
		io.Copy(conn, ch)
		conn.(*net.TCPConn).CloseWrite()
	})
	copies.Go(func() {
		io.Copy(ch, conn)
		ch.CloseWrite()
	})
	copies.Wait()
	ch.Close()
	rest.Wait()
}
