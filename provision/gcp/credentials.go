package gcp

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"google.golang.org/api/impersonate"
	"google.golang.org/api/option"

	"github.com/levinrun/levin/cluster"
)

const (
	allOfGoogle = "https://www.googleapis.com/auth/cloud-platform"
	// refreshAhead is how long before its end a token is replaced.
	refreshAhead = 5 * time.Minute
	// freshPause is the shortest time between two looks at a token that is near its
	// end.
	freshPause = 5 * time.Second
)

// credentials say who asks.
type credentials struct {
	source  oauth2.TokenSource
	who     string // for people
	project string // of whoever asks; may be empty
	quota   string // the project that quotas of the APIs are counted for, when it is another
}

// key is a file of credentials.
type key struct {
	name string // where it was found
	json []byte

	Type    string `json:"type"`
	Project string `json:"project_id"`
	Email   string `json:"client_email"`
	Quota   string `json:"quota_project_id"`
}

// findKey finds the credentials that lie in a variable or in a file, in the order
// in which Google's Terraform provider looks for them; nil when there are none.
func (c *Cloud) findKey() (*key, error) {
	for _, name := range []string{"GOOGLE_CREDENTIALS", "GOOGLE_CLOUD_KEYFILE_JSON", "GCLOUD_KEYFILE_JSON"} {
		if value := strings.TrimSpace(c.env[name]); value != "" {
			if strings.HasPrefix(value, "{") {
				return readKey(name, []byte(value))
			}
			return c.readKeyFile(name, value)
		}
	}
	const explicit = "GOOGLE_APPLICATION_CREDENTIALS"
	if file := c.env[explicit]; file != "" {
		return c.readKeyFile(explicit, file)
	}
	file := filepath.Join(c.gcloud(), "application_default_credentials.json")
	k, err := c.readKeyFile("the application default credentials", file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return k, err
}

func (c *Cloud) readKeyFile(name, file string) (*key, error) {
	if rest, ok := strings.CutPrefix(file, "~/"); ok {
		file = filepath.Join(c.cfg.Home, rest)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return readKey(name+" ("+file+")", b)
}

// readKey reads credentials. What is wrong with them is told without any of them.
func readKey(name string, b []byte) (*key, error) {
	k := &key{name: name, json: b}
	if json.Unmarshal(b, k) != nil || k.Type == "" {
		return nil, fmt.Errorf("%s: these are no credentials of Google", name)
	}
	return k, nil
}

// findCredentials finds out who asks. ctx holds the HTTP client that tokens are
// fetched with, and lasts as long as they are.
func (c *Cloud) findCredentials(ctx context.Context) (credentials, error) {
	found, err := c.ownCredentials(ctx)
	if err != nil {
		return credentials{}, err
	}
	if email := c.env["GOOGLE_IMPERSONATE_SERVICE_ACCOUNT"]; email != "" {
		found.source, err = impersonate.CredentialsTokenSource(ctx,
			impersonate.CredentialsConfig{TargetPrincipal: email, Scopes: []string{allOfGoogle}}, option.WithTokenSource(found.source))
		if err != nil {
			return credentials{}, err
		}
		found.who = "service account " + email + " for " + found.who
	}
	return found, nil
}

func (c *Cloud) ownCredentials(ctx context.Context) (credentials, error) {
	if token := c.env["GOOGLE_OAUTH_ACCESS_TOKEN"]; token != "" {
		return credentials{source: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: token}), who: "the token in GOOGLE_OAUTH_ACCESS_TOKEN"}, nil
	}
	params := google.CredentialsParams{Scopes: []string{allOfGoogle}, EarlyTokenRefresh: refreshAhead}
	k, err := c.findKey()
	if err != nil {
		return credentials{}, err
	}
	if k == nil {
		found, err := google.FindDefaultCredentialsWithParams(ctx, params)
		if err != nil {
			return credentials{}, err
		}
		return credentials{source: found.TokenSource, who: "the service account of this VM", project: found.ProjectID}, nil
	}
	found, err := google.CredentialsFromJSONWithTypeAndParams(ctx, k.json, google.CredentialsType(k.Type), params)
	if err != nil {
		return credentials{}, fmt.Errorf("%s: %w", k.name, err)
	}
	who := "service account " + k.Email
	if k.Email == "" {
		who = strings.ReplaceAll(k.Type, "_", " ") + " of " + k.name
	}
	return credentials{source: found.TokenSource, who: who, project: k.Project, quota: k.Quota}, nil
}

// project says which project machines are made in. It asks nobody but the metadata
// service, and that only when nothing else says it.
func (c *Cloud) project() (string, error) {
	named := cmp.Or(c.cfg.Settings.Project, c.env["GOOGLE_CLOUD_PROJECT"], c.env["GOOGLE_PROJECT"], c.env["CLOUDSDK_CORE_PROJECT"])
	if named != "" {
		return named, nil
	}
	k, err := c.findKey()
	if err == nil && k != nil && k.Project != "" {
		return k.Project, nil
	}
	if project := c.gcloudProject(); project != "" {
		return project, nil
	}
	if err == nil && k == nil {
		if s, err := c.connect(); err == nil && s.who.project != "" {
			return s.who.project, nil
		}
	}
	return "", &cluster.Failure{
		Kind: cluster.BadInput,
		What: "no GCP project is known for cloud " + c.cfg.Name,
		Next: fmt.Sprintf("set clouds.%s.project or GOOGLE_CLOUD_PROJECT, or choose one with `gcloud config set project`", c.cfg.Name),
	}
}

// gcloud is the folder of gcloud's configuration.
func (c *Cloud) gcloud() string {
	if dir := c.env["CLOUDSDK_CONFIG"]; dir != "" {
		return dir
	}
	if runtime.GOOS == "windows" {
		return filepath.Join(c.env["APPDATA"], "gcloud")
	}
	return filepath.Join(c.cfg.Home, ".config", "gcloud")
}

// gcloudProject reads the project of gcloud's active configuration, "" when there
// is none.
func (c *Cloud) gcloudProject() string {
	active := c.env["CLOUDSDK_ACTIVE_CONFIG_NAME"]
	if active == "" {
		b, err := os.ReadFile(filepath.Join(c.gcloud(), "active_config"))
		if err != nil {
			return ""
		}
		active = strings.TrimSpace(string(b))
	}
	f, err := os.Open(filepath.Join(c.gcloud(), "configurations", "config_"+filepath.Base(active)))
	if err != nil {
		return ""
	}
	defer f.Close()
	section := ""
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[] ")
			continue
		}
		k, v, ok := strings.Cut(line, "=")
		if ok && section == "core" && strings.TrimSpace(k) == "project" {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// freshTokens answers from memory for as long as the token it has is good, and is
// kept fresh in the background, so that whoever asks does not wait for a sign-in
// service.
type freshTokens struct {
	cloud  *Cloud
	source oauth2.TokenSource // asks once for all who ask at the same time
	keep   sync.Once

	mu   sync.Mutex
	have *oauth2.Token
}

// token gives a token that is good.
func (f *freshTokens) token(ctx context.Context) (*oauth2.Token, error) {
	f.mu.Lock()
	have := f.have
	f.mu.Unlock()
	if have.Valid() {
		return have, nil
	}
	type answer struct {
		token *oauth2.Token
		err   error
	}
	asked := make(chan answer, 1)
	if !f.cloud.background(func() { // it knows no context of ours
		token, err := f.ask()
		asked <- answer{token, err}
	}) {
		return nil, errClosed
	}
	select {
	case a := <-asked:
		return a.token, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (f *freshTokens) ask() (*oauth2.Token, error) {
	got, err := f.source.Token()
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.have = got
	f.mu.Unlock()
	return got, nil
}

// keepFresh replaces the token before it expires, until ctx ends or it turns out
// not to expire at all.
func (f *freshTokens) keepFresh(ctx context.Context) error {
	for {
		got, err := f.ask()
		if err == nil && got.Expiry.IsZero() {
			return nil
		}
		if err != nil && !f.usable() {
			return err // there was none: nobody works with it
		}
		pause := freshPause
		if err == nil {
			pause = max(pause, time.Until(got.Expiry.Add(-refreshAhead)))
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

func (f *freshTokens) usable() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.have.Valid()
}
