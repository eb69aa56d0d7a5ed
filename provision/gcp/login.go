package gcp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/auth/credentials/impersonate"
)

// scopeAll lets a token do whatever its owner may do.
const scopeAll = "https://www.googleapis.com/auth/cloud-platform"

// variablesOfLogin are the variables of the environment that say who asks GCP, as
// Terraform's provider and the SDK read them. They go to Terraform's process and
// into no file.
func variablesOfLogin() []string {
	return []string{
		"GOOGLE_OAUTH_ACCESS_TOKEN",
		"GOOGLE_CREDENTIALS", "GOOGLE_CLOUD_KEYFILE_JSON", "GCLOUD_KEYFILE_JSON",
		"GOOGLE_APPLICATION_CREDENTIALS",
		"GOOGLE_IMPERSONATE_SERVICE_ACCOUNT",
		"GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES",
		"GOOGLE_BILLING_PROJECT", "GOOGLE_CLOUD_QUOTA_PROJECT", "USER_PROJECT_OVERRIDE",
		"CLOUDSDK_CONFIG",
		"GCE_METADATA_HOST", "NO_GCE_CHECK",
	}
}

// variables are those of the user's environment that Terraform is given.
func (c *Cloud) variables() map[string]string {
	env := map[string]string{}
	for _, name := range variablesOfLogin() {
		if v, ok := c.lookup(name); ok {
			env[name] = v
		}
	}
	return env
}

// lookup gives a variable of the user's environment.
func (c *Cloud) lookup(name string) (string, bool) {
	for _, kv := range slices.Backward(c.cfg.Env) {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			return v, true
		}
	}
	return "", false
}

// getenv gives the first of the named variables that is not empty, and its name.
func (c *Cloud) getenv(names ...string) (value, name string) {
	for _, name := range names {
		if v, _ := c.lookup(name); v != "" {
			return v, name
		}
	}
	return "", ""
}

// login is who asks GCP.
type login struct {
	*auth.Credentials
	who string // for people
}

// signIn finds the user's credentials, once. No token is asked for yet. c.mu is
// held.
func (c *Cloud) signIn() (*login, error) {
	if c.login != nil {
		return c.login, nil
	}
	l, err := c.findLogin()
	if err != nil {
		return nil, err
	}
	if as, _ := c.getenv("GOOGLE_IMPERSONATE_SERVICE_ACCOUNT"); as != "" {
		creds, err := impersonate.NewCredentials(&impersonate.CredentialsOptions{
			TargetPrincipal: as, Scopes: []string{scopeAll}, Credentials: l.Credentials,
		})
		if err != nil {
			return nil, err
		}
		l = &login{creds, as + ", as which " + l.who + " acts"}
	}
	c.login = l
	return l, nil
}

// findLogin looks for credentials where Terraform's provider does, in its order.
func (c *Cloud) findLogin() (*login, error) {
	if token, name := c.getenv("GOOGLE_OAUTH_ACCESS_TOKEN"); token != "" {
		return &login{auth.NewCredentials(&auth.CredentialsOptions{TokenProvider: fixedToken(token)}), "the access token in " + name}, nil
	}
	if key, name := c.getenv("GOOGLE_CREDENTIALS", "GOOGLE_CLOUD_KEYFILE_JSON", "GCLOUD_KEYFILE_JSON"); key != "" {
		if strings.HasPrefix(strings.TrimSpace(key), "{") {
			return readLogin([]byte(key), name)
		}
		return readLoginFile(key, name)
	}
	if file, name := c.getenv("GOOGLE_APPLICATION_CREDENTIALS"); file != "" {
		return readLoginFile(file, name)
	}
	creds, err := credentials.DetectDefault(&credentials.DetectOptions{Scopes: []string{scopeAll}})
	if err != nil {
		return nil, err
	}
	return &login{creds, describe(creds.JSON(), "the service account of this VM")}, nil
}

func readLoginFile(file, name string) (*login, error) {
	key, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the credentials that %s names: %w", name, err)
	}
	return readLogin(key, name)
}

// readLogin reads credentials in Google's JSON form. name is the variable that
// they come from.
func readLogin(key []byte, name string) (*login, error) {
	var head struct {
		Type credentials.CredType `json:"type"`
	}
	if err := json.Unmarshal(key, &head); err != nil {
		return nil, fmt.Errorf("error parsing credentials: %s holds no JSON of a key", name) // and err might quote the key
	}
	creds, err := credentials.NewCredentialsFromJSON(head.Type, key, &credentials.DetectOptions{Scopes: []string{scopeAll}})
	if err != nil {
		return nil, fmt.Errorf("error parsing credentials in %s: %w", name, err)
	}
	return &login{creds, describe(key, "the credentials in "+name)}, nil
}

// describe says whose a key is, as far as it says so.
func describe(key []byte, otherwise string) string {
	var head struct {
		Type  string `json:"type"`
		Email string `json:"client_email"`
	}
	if json.Unmarshal(key, &head) != nil {
		return otherwise
	}
	switch {
	case head.Email != "":
		return head.Email
	case head.Type == "authorized_user":
		return "the user of `gcloud auth application-default login`"
	}
	return otherwise
}

// fixedToken is an access token that somebody else renews.
type fixedToken string

// Token implements auth.TokenProvider.
func (t fixedToken) Token(context.Context) (*auth.Token, error) {
	return &auth.Token{Value: string(t), Type: "Bearer"}, nil
}

// refreshAhead is how long before its end a token is asked for again: within the
// time in which the SDK renews it in the background while giving the old one.
const refreshAhead = 3 * time.Minute

// keepFresh sees to it that there always is a token, until ctx ends or there
// turns out to be none at all, so that whoever needs one does not wait for Google's
// sign-in service.
func (l *login) keepFresh(ctx context.Context) error {
	for {
		token, err := l.Token(ctx)
		if err != nil {
			return err
		}
		if token.Expiry.IsZero() {
			return nil
		}
		if err := sleep(ctx, max(time.Minute, time.Until(token.Expiry.Add(-refreshAhead)))); err != nil {
			return err
		}
	}
}

// warm makes the clients ahead of time and keeps a token at hand from then on, so
// that nothing stands between the end of the work and the request that ends its
// machine. What goes wrong here is told when it matters.
func (c *Cloud) warm() {
	c.mu.Lock()
	warmed := c.warmed
	c.warmed = true
	c.mu.Unlock()
	if warmed {
		return
	}
	c.background(func() {
		s, err := c.connect(c.life)
		if err == nil {
			err = s.login.keepFresh(c.life)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			c.cfg.Logger.Debug("GCP cannot be asked ahead of time", "error", err)
		}
	})
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
