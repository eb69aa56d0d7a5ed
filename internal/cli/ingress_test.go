package cli

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/levinrun/levin/configs"
)

func TestOwnAddress(t *testing.T) {
	answer := func(status int, body string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}))
		t.Cleanup(server.Close)
		return server.URL
	}
	good := answer(200, "203.0.113.7\n")
	for _, tt := range []struct {
		name     string
		services []string
		want     string // the address, or a part of the error
	}{
		{"answers", []string{good}, "203.0.113.7"},
		{"version 6", []string{answer(200, "2001:db8::1")}, "2001:db8::1"},
		{"version 4 in version 6", []string{answer(200, "::ffff:203.0.113.7")}, "203.0.113.7"},
		{"the first is down", []string{answer(503, "203.0.113.9"), good}, "203.0.113.7"},
		{"a page instead of an address", []string{answer(200, "<html>please log in</html>")}, "please log in"},
		{"too long", []string{answer(200, strings.Repeat("1", 1000))}, "not an address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, err := ownAddress(t.Context(), http.DefaultTransport, tt.services)
			got := addr.String()
			if err != nil {
				got = err.Error()
			}
			if got != tt.want && (err == nil || !strings.Contains(got, tt.want)) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestIngressOfSettings(t *testing.T) {
	var d deps
	got, err := d.ingress(configs.Settings{Ingress: []string{"198.51.100.0/24"}})(t.Context())
	if err != nil || len(got) != 1 || got[0] != "198.51.100.0/24" {
		t.Errorf("got %v, %v", got, err)
	}
}
