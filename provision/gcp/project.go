package gcp

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/levinrun/levin/cluster"
)

// findProject gives the project that machines are made in: of the settings, of
// the environment, of the credentials, of gcloud's active configuration.
func (c *Cloud) findProject(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.findProjectLocked(ctx)
}

func (c *Cloud) findProjectLocked(ctx context.Context) (string, error) {
	if c.project != "" {
		return c.project, nil
	}
	project := c.cfg.Settings.Project
	if project == "" {
		project, _ = c.getenv("GOOGLE_CLOUD_PROJECT", "GOOGLE_PROJECT", "CLOUDSDK_CORE_PROJECT")
	}
	var loginErr error
	if project == "" {
		project, loginErr = c.projectOfLogin(ctx)
	}
	if project == "" {
		project = c.projectOfGcloud()
	}
	if project == "" {
		return "", &cluster.Failure{
			Kind: cluster.BadInput,
			What: fmt.Sprintf("no project is known for cloud %s", c.cfg.Name),
			Next: fmt.Sprintf("set clouds.%s.project in the settings or GOOGLE_CLOUD_PROJECT, or run `gcloud config set project PROJECT`", c.cfg.Name),
			Err:  loginErr,
		}
	}
	c.project = project
	return project, nil
}

// projectOfLogin gives the project that the credentials belong to, "" if they do
// not say.
func (c *Cloud) projectOfLogin(ctx context.Context) (string, error) {
	l, err := c.signIn()
	if err != nil {
		return "", err
	}
	return l.ProjectID(ctx)
}

// projectOfGcloud gives the project of gcloud's active configuration, "" if there
// is none.
// https://cloud.google.com/sdk/docs/configurations
func (c *Cloud) projectOfGcloud() string {
	dir, _ := c.getenv("CLOUDSDK_CONFIG")
	if appData, _ := c.getenv("APPDATA"); dir == "" && runtime.GOOS == "windows" {
		dir = filepath.Join(appData, "gcloud")
	}
	if dir == "" {
		dir = filepath.Join(c.cfg.Home, ".config", "gcloud")
	}
	active, _ := c.getenv("CLOUDSDK_ACTIVE_CONFIG_NAME")
	if active == "" {
		name, _ := os.ReadFile(filepath.Join(dir, "active_config")) // without one the default is active
		active = cmp.Or(strings.TrimSpace(string(name)), "default")
	}
	if active != filepath.Base(active) {
		return ""
	}
	data, err := os.ReadFile(filepath.Join(dir, "configurations", "config_"+active))
	if err != nil {
		return ""
	}
	return coreProject(string(data))
}

// coreProject reads "project" of the section "core" of a configuration of gcloud.
func coreProject(ini string) string {
	section := ""
	for lines := bufio.NewScanner(strings.NewReader(ini)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]") {
			section = strings.TrimSpace(line[1 : len(line)-1])
			continue
		}
		if key, value, ok := strings.Cut(line, "="); ok && section == "core" && strings.TrimSpace(key) == "project" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
