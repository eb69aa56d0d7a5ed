package agent

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxMetadata bounds an answer of a metadata service.
const maxMetadata = 64 << 10

// metadata is the service that tells a machine about itself. It is asked
// directly, whatever proxies the machine has, and by hand: an HTTP client would
// make the agent half a MB larger.
type metadata struct {
	host string // with its port
	path string // before the path of every question, without a slash at its end
}

// newMetadata is the service at a URL ("http://169.254.169.254").
func newMetadata(base string) (metadata, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return metadata{}, fmt.Errorf("the metadata service is at %.200q, which is no http address", base)
	}
	m := metadata{host: u.Host, path: strings.TrimSuffix(u.EscapedPath(), "/")}
	if u.Port() == "" {
		m.host = net.JoinHostPort(u.Hostname(), "80")
	}
	return m, nil
}

// reply is what the service answers.
type reply struct {
	status int
	etag   string
	body   string
}

// ask asks one question, within limit. Headers are names and values in turn.
func (m metadata) ask(ctx context.Context, limit time.Duration, method, path string, headers ...string) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", m.host)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: 0\r\n", method, m.path, path, m.host)
	for i := 0; i < len(headers); i += 2 {
		fmt.Fprintf(&b, "%s: %s\r\n", headers[i], headers[i+1])
	}
	b.WriteString("\r\n")
	if _, err := io.WriteString(conn, b.String()); err != nil {
		return reply{}, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxMetadata))
	return reply{status: resp.StatusCode, etag: resp.Header.Get("ETag"), body: string(body)}, err
}
