package cli

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/aws"
	"github.com/levinrun/levin/provision/gcp"
	"github.com/levinrun/levin/provision/local"
	"github.com/levinrun/levin/provision/module"
	"github.com/levinrun/levin/provision/ssh"
)

// newClouds makes the clouds with the given names.
func (d *deps) newClouds(s configs.Settings, names []string, journal *cluster.Journal, logger *slog.Logger) (clouds []provision.Cloud, close func(), err error) {
	var closers []io.Closer
	close = func() {
		for _, c := range closers {
			c.Close()
		}
	}
	for _, name := range names {
		settings, ok := s.Clouds[name]
		if !ok {
			close()
			return nil, nil, usagef("there is no cloud %q; the settings have: %s", name, strings.Join(cloudNames(s), ", "))
		}
		cloud, err := d.newCloud(s, name, settings, journal, logger)
		if err != nil {
			close()
			return nil, nil, err
		}
		if c, ok := cloud.(io.Closer); ok {
			closers = append(closers, c)
		}
		clouds = append(clouds, cloud)
	}
	return clouds, close, nil
}

// newCloud is the one place that knows which kinds of cloud there are; a new kind
// is one more case.
func (d *deps) newCloud(s configs.Settings, name string, settings configs.CloudSettings, journal *cluster.Journal, logger *slog.Logger) (provision.Cloud, error) {
	switch settings.Module {
	case "local":
		return local.New(local.Config{
			Name: name, Home: s.Home, Price: settings.Price, Lease: s.Lease, Logger: logger,
			Agent: func(ctx context.Context) (string, error) {
				b, err := d.agentSource(s)(ctx, hostOS, hostArch)
				return b.Path, err
			},
		}), nil
	case "ssh":
		return ssh.New(ssh.Config{
			Name: name, Settings: settings, Journal: journal,
			LockFile: filepath.Join(s.Home, "hosts.lock"),
			Home:     d.Getenv("HOME"),
		})
	case "aws":
		return aws.New(aws.Config{
			Name: name, Settings: settings, CacheDir: d.catalogDir(s), Env: d.Env, Home: d.Getenv("HOME"), Logger: logger,
		})
	case "gcp":
		return gcp.New(gcp.Config{
			Name: name, Settings: settings, CacheDir: d.catalogDir(s), Env: d.Env, Home: d.Getenv("HOME"), Logger: logger,
		})
	default: // the folder of a module of the user's own
		return module.New(module.Config{Name: name, Settings: settings, Env: d.lookupEnv, Home: d.Getenv("HOME")})
	}
}

// catalogDir is where refreshed catalogs are kept.
func (d *deps) catalogDir(s configs.Settings) string { return filepath.Join(d.cacheDir(s), "catalog") }

// cloudNames lists the clouds of the settings, sorted.
func cloudNames(s configs.Settings) []string {
	names := make([]string, 0, len(s.Clouds))
	for name := range s.Clouds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// splitClouds reads --cloud: names separated by commas.
func splitClouds(s string) []string {
	names := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
	slices.Sort(names)
	return slices.Compact(names)
}
