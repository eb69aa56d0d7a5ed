package configs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"

	"github.com/levinrun/levin/cluster"
)

// minLease is the shortest lease that a slow connection cannot lose by itself.
const minLease = 2 * time.Second

// minLostAfter leaves time for one more try.
const minLostAfter = time.Second

// SettingsInput is the outside world that LoadSettings looks at.
type SettingsInput struct {
	Env   func(string) (string, bool) // as os.LookupEnv
	Dir   string                      // working folder, for relative paths in variables and flags
	Flags map[string]string           // by key of the settings file: "home", "cloud", …
}

func (in SettingsInput) env(name string) string {
	if in.Env == nil {
		return ""
	}
	v, _ := in.Env(name)
	return v
}

// LoadSettings reads the settings: defaults, the file, LEVIN_* variables and
// flags, each over the one before. The clouds "local", "aws" and "gcp" are always
// among the result's Clouds. The error is a *cluster.Failure of kind BadInput that wraps Errors when
// a value is at fault.
func LoadSettings(in SettingsInput) (Settings, error) {
	file, data, err := settingsFile(in)
	if err != nil {
		return Settings{}, err
	}
	l := &settingsLoader{in: in, d: parseDocument(file, data), nodes: map[string]*yaml.Node{}}
	if l.d.root != nil && l.d.root.Tag != "!!null" {
		l.nodes = settingsKeys().read(l.d, "the settings", l.d.root, &l.file)
	}
	s, err := l.load(filepath.Dir(file))
	if err != nil {
		return Settings{}, err
	}
	what := "the settings are not valid"
	if file != "" {
		what = "the settings in " + file + " are not valid"
	}
	if err := l.d.errs.failure(what); err != nil {
		return Settings{}, err
	}
	return s, nil
}

// settingsFile gives the path and the text of the settings file; both are empty
// when there is none.
func settingsFile(in SettingsInput) (string, []byte, error) {
	file, named := in.env("LEVIN_CONFIG"), true
	if file == "" {
		dir, err := configDir(in)
		if err != nil {
			return "", nil, nil // nowhere to look
		}
		file, named = filepath.Join(dir, "levin", "settings.yaml"), false
	} else if !filepath.IsAbs(file) {
		file = filepath.Join(in.Dir, file)
	}
	data, err := readDocument(file)
	switch {
	case err == nil:
		return file, data, nil
	case errors.Is(err, os.ErrNotExist) && !named:
		return "", nil, nil
	}
	f := &cluster.Failure{Kind: cluster.BadInput, What: "could not read the settings " + file, Err: err}
	if named {
		f.Next = "LEVIN_CONFIG names this file; unset it to go without"
	}
	return "", nil, f
}

func configDir(in SettingsInput) (string, error) {
	if dir := in.env("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return dir, nil
	}
	home := in.env("HOME")
	switch {
	case home == "":
		return "", errors.New("HOME is not set")
	case runtime.GOOS == "darwin":
		return filepath.Join(home, "Library", "Application Support"), nil
	}
	return filepath.Join(home, ".config"), nil
}

// defaultHome is the platform's folder for data.
func defaultHome(in SettingsInput) (string, error) {
	if dir := in.env("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "levin"), nil
	}
	home := in.env("HOME")
	switch {
	case home == "":
		return "", &cluster.Failure{Kind: cluster.BadInput, What: "there is no place for Levin's state: neither LEVIN_HOME nor HOME is set", Next: "set LEVIN_HOME to a folder you can write"}
	case runtime.GOOS == "darwin":
		return filepath.Join(home, "Library", "Application Support", "levin"), nil
	}
	return filepath.Join(home, ".local", "share", "levin"), nil
}

// scalarSettings are the keys that also come by a flag and by a variable: LEVIN_
// and the key in capitals.
func scalarSettings() []string {
	return []string{"home", "cloud", "lease", "max_machines", "max_terraform", "terraform", "stop_timeout", "lost_after", "location"}
}

type settingsLoader struct {
	in    SettingsInput
	d     *document
	file  Settings              // what the file says
	nodes map[string]*yaml.Node // the file's values by key
}

// load puts the sources over each other and decodes the outcome once. dir is the
// folder of the settings file.
func (l *settingsLoader) load(dir string) (Settings, error) {
	v := viper.New()
	v.SetDefault("cloud", "local")
	v.SetDefault("lease", 10*time.Minute)
	v.SetDefault("stop_timeout", 5*time.Minute)
	v.SetDefault("lost_after", 2*time.Minute)
	v.SetDefault("max_machines", 16)
	if err := v.MergeConfigMap(l.fromFile(dir)); err != nil {
		return Settings{}, fmt.Errorf("settings: %w", err)
	}
	if err := v.MergeConfigMap(l.fromEnv()); err != nil {
		return Settings{}, fmt.Errorf("settings: %w", err)
	}
	for key, value := range l.fromFlags() {
		v.Set(key, value)
	}
	if !v.IsSet("home") {
		home, err := defaultHome(l.in)
		if err != nil {
			return Settings{}, err
		}
		v.SetDefault("home", home)
	}
	var s Settings
	if err := v.UnmarshalExact(&s, func(c *mapstructure.DecoderConfig) { c.TagName, c.WeaklyTypedInput = "json", false }); err != nil {
		return Settings{}, fmt.Errorf("settings: %w", err)
	}
	s.Clouds = l.file.Clouds
	if s.Clouds == nil {
		s.Clouds = map[string]CloudSettings{}
	}
	for _, name := range []string{"local", "aws", "gcp"} {
		if _, ok := s.Clouds[name]; !ok {
			s.Clouds[name] = CloudSettings{Module: name}
		}
	}
	s.Ingress, s.State = l.file.Ingress, l.file.State
	l.checkCloud(s)
	for name, c := range s.Clouds {
		if kind(c.Module) == ownKind {
			c.Module = l.path(c.Module, dir)
		}
		c.Offers, c.Identity = l.path(c.Offers, dir), l.path(c.Identity, dir)
		for i := range c.Hosts {
			c.Hosts[i].Identity = l.path(c.Hosts[i].Identity, dir)
		}
		s.Clouds[name] = c
	}
	return s, nil
}

// fromFile gives the scalar settings of the file. Its relative paths are meant
// from its own folder.
func (l *settingsLoader) fromFile(dir string) map[string]any {
	all := l.values(l.file, dir)
	given := map[string]any{}
	for _, key := range scalarSettings() {
		if l.nodes[key] != nil {
			given[key] = all[key]
		}
	}
	return given
}

// fromEnv gives what variables set; an empty one sets nothing.
func (l *settingsLoader) fromEnv() map[string]any {
	given := map[string]any{}
	for _, key := range scalarSettings() {
		name := "LEVIN_" + strings.ToUpper(key)
		if text := l.in.env(name); text != "" {
			l.fromText(given, key, text, name)
		}
	}
	return given
}

func (l *settingsLoader) fromFlags() map[string]any {
	given := map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(l.in.Flags)) {
		text, name := l.in.Flags[key], "--"+strings.ReplaceAll(key, "_", "-")
		if !slices.Contains(scalarSettings(), key) {
			l.fail(name, key, "there is no such setting").Suggestion = nearest(key, scalarSettings())
			continue
		}
		l.fromText(given, key, text, name)
	}
	return given
}

// fromText reads one setting from text, by the table of the file.
func (l *settingsLoader) fromText(given map[string]any, key, text, origin string) {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	l.d.origins[n] = origin
	keys := settingsKeys()
	at := slices.IndexFunc(keys, func(p property[Settings]) bool { return p.name == key })
	var s Settings
	before := len(l.d.errs)
	keys[at].read(l.d, n, &s)
	if len(l.d.errs) == before {
		given[key] = l.values(s, l.in.Dir)[key]
	}
}

// values gives the scalar settings by key, with paths made absolute.
func (l *settingsLoader) values(s Settings, dir string) map[string]any {
	terraform := s.Terraform
	if strings.ContainsRune(terraform, '/') {
		terraform = l.path(terraform, dir)
	}
	return map[string]any{
		"home": l.path(s.Home, dir), "cloud": s.Cloud, "lease": s.Lease, "max_machines": s.MaxMachines,
		"max_terraform": s.MaxTerraform, "terraform": terraform, "stop_timeout": s.StopTimeout, "lost_after": s.LostAfter,
		"location": s.Location,
	}
}

// path expands ~ and makes a path absolute.
func (l *settingsLoader) path(p, dir string) string {
	if rest, ok := strings.CutPrefix(p, "~/"); ok && l.in.env("HOME") != "" {
		return filepath.Join(l.in.env("HOME"), rest)
	}
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(dir, p)
}

func (l *settingsLoader) fail(origin, text, format string, args ...any) *Error {
	e := &Error{File: origin, Text: text, Message: fmt.Sprintf(format, args...)}
	l.d.errs = append(l.d.errs, e)
	return e
}

// checkCloud makes sure that every default cloud is there.
func (l *settingsLoader) checkCloud(s Settings) {
	names := make([]string, 0, len(s.Clouds))
	for name := range s.Clouds {
		names = append(names, name)
	}
	slices.Sort(names)
	for name := range strings.SplitSeq(s.Cloud, ",") {
		if slices.Contains(names, strings.TrimSpace(name)) {
			continue
		}
		message := fmt.Sprintf("there is no cloud %s; the settings have %s", quote(strings.TrimSpace(name)), strings.Join(names, ", "))
		var e *Error
		switch n := l.nodes["cloud"]; {
		case l.in.Flags["cloud"] != "":
			e = l.fail("--cloud", name, "%s", message)
		case l.in.env("LEVIN_CLOUD") != "":
			e = l.fail("LEVIN_CLOUD", name, "%s", message)
		case n != nil:
			e = l.d.fail(n, name, "%s", message)
		default:
			continue // cannot be: the default is always there
		}
		e.Suggestion = nearest(strings.TrimSpace(name), names)
	}
}

// settingsKeys is the table of the settings file.
func settingsKeys() object[Settings] {
	return object[Settings]{
		{"home", "Folder of Levin's state.", textSchema(), func(d *document, n *yaml.Node, s *Settings) { s.Home, _ = d.filled(n, "home") }},
		{"cloud", "Default cloud of levin run, or several separated by commas.", schema{"type": "string", "minLength": 1, "default": "local"},
			func(d *document, n *yaml.Node, s *Settings) { s.Cloud, _ = d.filled(n, "cloud") }},
		{"clouds", "Clouds by name.", schema{"type": "object", "propertyNames": labelSchema(maxName), "additionalProperties": schema{"$ref": "#/$defs/cloud"}}, readClouds},
		{"lease", "How long a machine lives without its controller; at least 2s.", durationSchema("10m"), func(d *document, n *yaml.Node, s *Settings) {
			s.Lease = d.atLeast(n, "lease", minLease)
		}},
		{"max_machines", "Machines that a component holds at the same time.", schema{"type": "integer", "minimum": 1, "default": 16},
			func(d *document, n *yaml.Node, s *Settings) { s.MaxMachines = d.whole(n, "max_machines", 1) }},
		{"max_terraform", "Terraform processes at the same time; 0 derives it from cores and memory.", schema{"type": "integer", "minimum": 0, "default": 0},
			func(d *document, n *yaml.Node, s *Settings) { s.MaxTerraform = d.whole(n, "max_terraform", 0) }},
		{"terraform", "Path of the terraform or tofu binary; looked for on PATH when left out.", textSchema(),
			func(d *document, n *yaml.Node, s *Settings) { s.Terraform, _ = d.filled(n, "terraform") }},
		{"stop_timeout", "How long clean-up may take after Ctrl-C.", durationSchema("5m"), func(d *document, n *yaml.Node, s *Settings) {
			s.StopTimeout = d.positive(n, "stop_timeout", "clean-up needs time")
		}},
		{"location", "Region of a cloud that this computer is in, such as aws/us-east-1, for the price of moving data; in none when left out.",
			schema{"type": "string", "pattern": locationPattern}, readLocation},
		{"ingress", "Addresses (CIDR) that machines in clouds take SSH from; this computer's own when left out.", textOrListSchema(), readIngress},
		{"state", "Where Terraform's states are kept; beside their roots when left out.", stateKeys().schema("", "backend", "config"), readState},
		{"lost_after", "How long a machine that cannot be reached is tried before it counts as lost; at least 1s.", durationSchema("2m"), func(d *document, n *yaml.Node, s *Settings) {
			s.LostAfter = d.atLeast(n, "lost_after", minLostAfter)
		}},
	}
}
