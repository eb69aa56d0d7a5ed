package configs

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/levinrun/levin/cluster"
)

// Defaults of the app file that do not depend on the settings.
const (
	defaultStartTimeout = 15 * time.Minute
	defaultGrace        = 10 * time.Second
	defaultTTL          = 24 * time.Hour
)

// A machine must have the time to boot; and GCP takes 120 days at the most as
// max_run_duration.
const (
	leastTTL = time.Minute
	mostTTL  = 120 * 24 * time.Hour
)

// leastGrace is what a grace of 0 becomes: KILL follows TERM at once. The agent
// takes 0 for a grace that nobody chose.
const leastGrace = time.Millisecond

// Load reads, defaults and validates an app. path is the app file, or a folder
// that holds app.yaml or app.yml. set are assignments KEY=VALUE with a dotted
// KEY, put over the file before it is validated.
//
// Everything that can be refused without a cloud is refused here. The error is a
// *cluster.Failure of kind BadInput; when the file itself is at fault it wraps
// Errors, which holds all that is wrong.
func Load(path string, set []string) (*App, error) {
	file, err := findApp(path)
	if err != nil {
		return nil, err
	}
	data, err := readDocument(file)
	if err != nil {
		return nil, unreadable(file, err)
	}
	real, err := filepath.Abs(file)
	if err == nil {
		real, err = filepath.EvalSymlinks(real)
	}
	if err != nil {
		return nil, unreadable(file, err)
	}
	return parseApp(&App{Dir: filepath.Dir(real), File: real}, file, data, set)
}

func unreadable(file string, err error) error {
	return &cluster.Failure{Kind: cluster.BadInput, What: "could not read the app file " + file, Err: err}
}

// findApp gives the path of the app file.
func findApp(path string) (string, error) {
	const next = "name an app file, or a folder that holds app.yaml"
	info, err := os.Stat(path)
	if err != nil {
		return "", &cluster.Failure{Kind: cluster.BadInput, What: "could not find the app " + path, Err: err, Next: next}
	}
	if !info.IsDir() {
		return path, nil
	}
	for _, name := range []string{"app.yaml", "app.yml"} {
		file := filepath.Join(path, name)
		_, err := os.Stat(file)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return "", unreadable(file, err)
		}
	}
	return "", &cluster.Failure{Kind: cluster.BadInput, What: "there is no app.yaml in " + path, Next: next}
}

// parseApp fills app, whose Dir is set, from the text of its file.
func parseApp(app *App, file string, data []byte, set []string) (*App, error) {
	what := "the app file " + file + " is not valid"
	named, errs := loadSizes()
	if len(errs) > 0 {
		return nil, errs.failure("the table of sizes is not valid")
	}
	d := parseDocument(file, data)
	if d.root == nil && len(d.errs) > 0 {
		return nil, d.errs.failure(what)
	}
	for _, s := range set {
		d.set(s)
	}
	if d.root == nil || d.root.Tag == "!!null" {
		d.fail(&yaml.Node{Line: 1, Column: 1}, "", "the file is empty; it needs at least name and components")
		return nil, d.errs.failure(what)
	}
	newAppReader(d, named, app).read()
	if len(d.errs) > 0 {
		return nil, d.errs.failure(what)
	}
	return app, nil
}

// WithDefaults gives a copy of the app in which what it leaves to the settings
// is filled in: max_machines.
func (a *App) WithDefaults(s Settings) *App {
	filled := *a
	filled.Components = slices.Clone(a.Components)
	for i := range filled.Components {
		if c := &filled.Components[i]; c.MaxMachines == 0 {
			c.MaxMachines = max(1, s.MaxMachines)
		}
	}
	return &filled
}

// source is a component and the nodes it was read from.
type source struct {
	Component
	key   *yaml.Node            // its name
	nodes map[string]*yaml.Node // its values by key
	env   map[string]*yaml.Node // the values of its own variables by name
	needs map[string]bool       // its needs, for a quick look
}

// appTables are the tables of keys of the app file.
type appTables struct {
	app       object[appReader]
	component object[source]
	resources resourceReader
}

func newAppTables(named sizes) appTables {
	resources := newResourceReader(named)
	return appTables{app: appKeys(), component: componentKeys(resources), resources: resources}
}

// appReader turns a document into an app.
type appReader struct {
	tables  appTables
	d       *document
	app     *App
	nodes   map[string]*yaml.Node // the values of the top by key
	env     map[string]*yaml.Node // the values of the app's variables by name
	sources []*source
	names   []string           // of the components, in the file's order
	byName  map[string]*source // the components by name
}

func newAppReader(d *document, named sizes, app *App) *appReader {
	app.OnFailure, app.TTL = Cancel, defaultTTL
	return &appReader{tables: newAppTables(named), d: d, app: app, byName: map[string]*source{}}
}

// read fills the app and notes in the document what is wrong.
func (r *appReader) read() {
	r.nodes = r.tables.app.read(r.d, "the app", r.d.root, r)
	if r.d.root.Kind != yaml.MappingNode {
		return
	}
	for _, key := range []string{"name", "components"} {
		if r.nodes[key] == nil {
			r.d.fail(r.d.root, "", "%s is missing", key)
		}
	}
	r.validate()
	for _, s := range r.sources {
		r.app.Components = append(r.app.Components, s.Component)
	}
}

func (r *appReader) readComponents(n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		r.d.fail(n, n.Value, "components must be a mapping of names to components, is %s", kindOf(n))
		return
	}
	if len(n.Content) == 0 {
		r.d.fail(n, "", "components is empty: there is nothing to run")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		r.d.label(key, "the component's name", key.Value)
		s := &source{key: key}
		s.Component = Component{Name: key.Value, Files: []string{"."}, StartTimeout: defaultStartTimeout, Grace: defaultGrace}
		s.nodes = r.tables.component.read(r.d, "component "+quote(key.Value), value, s)
		if value.Kind == yaml.MappingNode && valueOf(value, "run") == nil {
			r.d.fail(key, key.Value, "component %s has no run", quote(key.Value))
		}
		r.sources, r.names, r.byName[s.Name] = append(r.sources, s), append(r.names, s.Name), s
	}
}
