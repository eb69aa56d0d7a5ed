package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

// addressServices answer with the address that a request came from, and nothing
// else. The second is for when the first does not answer.
func addressServices() []string {
	return []string{"https://checkip.amazonaws.com", "https://api.ipify.org"}
}

// addressTimeout bounds one question to one of them.
const addressTimeout = 10 * time.Second

// ingress gives who may reach port 22 of machines in clouds: the settings say so,
// or it is the address that this computer has on the internet, looked up once.
func (d *deps) ingress(s configs.Settings) func(context.Context) ([]string, error) {
	if len(s.Ingress) > 0 {
		return func(context.Context) ([]string, error) { return s.Ingress, nil }
	}
	var mu sync.Mutex
	var known []string
	return func(ctx context.Context) ([]string, error) {
		mu.Lock()
		defer mu.Unlock()
		if known == nil {
			own, err := ownAddress(ctx, http.DefaultTransport, addressServices())
			if err != nil {
				return nil, &cluster.Failure{
					Kind: cluster.Provisioning, What: "could not find out the address that machines will see this computer under", Err: err,
					Next: "set `ingress: [ADDRESS/32]` in the settings",
				}
			}
			known = []string{netip.PrefixFrom(own, own.BitLen()).String()}
		}
		return known, nil
	}
}

// ownAddress asks one service after the other.
func ownAddress(ctx context.Context, via http.RoundTripper, services []string) (netip.Addr, error) {
	client := http.Client{Transport: via, Timeout: addressTimeout}
	var errs []error
	for _, service := range services {
		addr, err := askAddress(ctx, client, service)
		if err == nil {
			return addr, nil
		}
		errs = append(errs, err)
	}
	return netip.Addr{}, errors.Join(errs...)
}

func askAddress(ctx context.Context, client http.Client, service string) (netip.Addr, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, service, nil)
	if err != nil {
		return netip.Addr{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return netip.Addr{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 100))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%s: %w", service, err)
	}
	addr, err := netip.ParseAddr(strings.TrimSpace(string(body)))
	if err != nil || resp.StatusCode != http.StatusOK {
		return netip.Addr{}, fmt.Errorf("%s answers %s with %q, which is not an address", service, resp.Status, body)
	}
	return addr.Unmap(), nil
}
