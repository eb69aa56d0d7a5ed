package configs

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the schemas")

func compile(t *testing.T, file string, made []byte, err error) *jsonschema.Schema {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	committed, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(committed), string(made)); diff != "" {
		t.Errorf("%s is not what the keys say; run go test ./configs -update (-file +keys):\n%s", file, diff)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(made))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("file:///"+file, doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("file:///" + file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func check(t *testing.T, s *jsonschema.Schema, text string) error {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return s.Validate(v)
}

func TestAppSchema(t *testing.T) {
	made, err := AppSchema()
	s := compile(t, "app.schema.json", made, err)
	examples, err := filepath.Glob("../examples/*/app.yaml")
	if err != nil || len(examples) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range examples {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(t, s, string(data)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	dir := t.TempDir()
	const head = "name: x\ncomponents:\n  b: {run: y}\n  a: "
	// Both the schema and the reader take these.
	for _, text := range []string{
		"{run: x}", "{run: [x, 1, true, '']}", "{run: x, needs: b, files: [.], outputs: []}", "{run: x, needs: [b], files: []}",
		"{run: x, timeout: 1h30m, grace: 0, start_timeout: 1.5h, idle_timeout: 0s}", "{run: x, for_each: [a, 1, true], env: {A: 1, b_2: true, C: x}}",
		"{run: x, resources: gpu-fast-multi}", "{run: x, resources: {gpu: T4, cpus: 4, memory: 16GB.., disk: ..1 TiB, arch: arm64, machine: cpu, spot: never}}",
		"{run: x, resources: {spot: auto, zone: use1-az1, any_of: [{spot: only, zone: [a, b]}]}, checkpoint: [ckpt/], output_size: 20GB, ports: 80}", "{run: x, checkpoint: [], output_size: 5, ports: [80, 8000]}",
		"{run: x, resources: {gpu: {model: [A, b], count: 2, memory: 24GB..48GB}, cpus: 0.5..2, cloud: a, region: [r], max_price: 0.1}}",
		"{run: x, resources: {any_of: [gpu, {gpu: A100:2}, {cpus: '4..'}], memory: 4}}", "{run: x, nodes: 1, retries: 0, max_machines: 1, build: b, setup: s}",
		"{run: true, build: true, setup: false}", "{run: x, resources: {gpu: 4090}}", "{run: x, resources: {gpu: {model: 4090}}}", "{run: x, resources: {gpu: {model: [4090, a]}}}",
	} {
		if err := check(t, s, head+text); err != nil {
			t.Errorf("%s: the schema refuses it: %v", text, err)
		}
		if _, err := parseApp(&App{Dir: dir}, "app.yaml", []byte(head+text), nil); err != nil {
			t.Errorf("%s: the reader refuses it: %v", text, err)
		}
	}
	// Neither takes these.
	for _, text := range []string{
		"{}", "x", "{run: ''}", "{run: []}", "{run: x, retires: 1}", "{run: x, retries: -1}", "{run: x, max_machines: 0}", "{run: x, timeout: 5}", "{run: x, grace: -1s}", "{run: x, timeout: soon}",
		"{run: x, serve: {}}", "{run: x, nodes: 2}", "{run: x, resources: huge}", "{run: x, resources: {cpus: -1}}", "{run: x, resources: {cpus: 4GB}}", "{run: x, resources: {memory: 4XB}}",
		"{run: x, resources: {cpus: ..}}", "{run: x, resources: {spot: always}}", "{run: x, resources: {zone: []}}", "{run: x, ports: []}", "{run: x, ports: 0}", "{run: x, ports: [70000]}", "{run: x, ports: [1, 1]}", "{run: x, output_size: -1}", "{run: x, ttl: 1h}", "{run: x, resources: {any_of: []}}", "{run: x, resources: {any_of: [{any_of: [gpu]}]}}",
		"{run: x, resources: {gpu: {count: 0}}}", "{run: x, resources: {gpu: 3}}", "{run: x, resources: {gpu: true}}", "{run: 5}", "{run: x, resources: {max_price: 0}}", "{run: x, for_each: []}", "{run: x, for_each: [a, a]}", "{run: x, env: {a-b: 1}}",
		"{run: x, env: {LEVIN_X: 1}}", "{run: x, env: {A: }}", "{run: x, resources: {cloud: []}}",
	} {
		if err := check(t, s, head+text); err == nil {
			t.Errorf("%s: the schema takes it", text)
		}
		if _, err := parseApp(&App{Dir: dir}, "app.yaml", []byte(head+text), nil); err == nil {
			t.Errorf("%s: the reader takes it", text)
		}
	}
	for _, text := range []string{"name: x", "components: {a: {run: x}}", "name: X\ncomponents: {a: {run: x}}", "name: x\ncomponents: {}", "name: x\ncomponents: {A: {run: x}}", "name: x\ncomponents: {a: {run: x}}\non_failure: no"} {
		if err := check(t, s, text); err == nil {
			t.Errorf("%s: the schema takes it", text)
		}
	}
}

func TestSettingsSchema(t *testing.T) {
	made, err := SettingsSchema()
	s := compile(t, "settings.schema.json", made, err)
	for text, good := range map[string]bool{
		"{}": true, "home: ~/x\ncloud: a,b\nlease: 2s\nstop_timeout: 1m\nlost_after: 1s\nmax_machines: 1\nmax_terraform: 0\nterraform: tofu": true,
		"clouds: {a: {module: ssh, price: 0, hosts: [{address: b, memory: 64GB, disk: 5, gpu: 'T4:2', slots: 2, port: 22, arch: arm64}]}}": true,
		"clouds: {local: {price: 1}}": true, "clouds: {a: {module: ssh, hosts: [{address: b, gpu: 4090}]}}": true,
		"location: aws/us-east-1\ningress: [203.0.113.7, 2001:db8::/32]\nstate: {backend: s3, config: {bucket: b, key: 'levin/${group}'}, env: [AWS_PROFILE]}":                                                                                         true,
		"clouds: {aws: {regions: [us-east-1], profile: p, endpoint: 'http://localhost:1', network: vpc-1, subnets: subnet-1, private: true, role: r, image: ami-1, disk_type: gp3, user: u, proxy_command: 'x %i'}, gcp: {project: p, proxy_jump: a}}": true,
		"clouds: {lambda: {module: ./tf/lambda, offers: o.csv, variables: {a: 1, b: [x], c: {d: true}}, env: TOKEN_OF_LAMBDA, identity: ~/.ssh/id}}":                                                                                                   true,
		"location: mars": false, "ingress: []": false, "state: {backend: ftp, config: {}}": false, "state: {backend: s3}": false, "clouds: {a: {endpoint: ftp://x}}": false, "clouds: {a: {module: ./x, env: [a-b]}}": false, "clouds: {aws: {private: 1}}": false,
		"leese: 2s": false, "lease: 5": false, "max_machines: 0": false, "clouds: {a: {module: azure}}": false, "clouds: {A: {module: local}}": false,
		"clouds: {a: {module: ssh, hosts: [{name: b}]}}": false, "clouds: {a: {module: ssh, hosts: [{address: b, slots: 0}]}}": false, "clouds: {a: {module: ssh, hosts: [{address: b, port: 70000}]}}": false,
	} {
		if err := check(t, s, text); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Every key is in the schema with a description, and the docs name it.
func TestEveryKeyIsDescribed(t *testing.T) {
	named, errs := loadSizes()
	if len(errs) > 0 || len(named.names) != 6 {
		t.Fatal(named.names, errs)
	}
	tables := newAppTables(named)
	described(t, "app-file.md", tables.app)
	described(t, "app-file.md", tables.component)
	described(t, "app-file.md", tables.resources.keys)
	described(t, "app-file.md", gpuKeys())
	described(t, "settings.md", settingsKeys())
	described(t, "settings.md", cloudKeys())
	described(t, "settings.md", hostKeys())
	described(t, "settings.md", stateKeys())
}

// Each key of a cloud belongs to at least one kind, and each kind of key to a key.
func TestEveryKeyOfCloudsHasKinds(t *testing.T) {
	of := keysOfKinds()
	for _, p := range cloudKeys() {
		if len(of[p.name]) == 0 {
			t.Errorf("%s belongs to no kind of cloud", p.name)
		}
		delete(of, p.name)
	}
	if len(of) > 0 {
		t.Errorf("no such keys: %v", of)
	}
}

func described[T any](t *testing.T, doc string, keys object[T]) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../docs", doc))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range keys {
		if p.read != nil && (p.doc == "" || p.value == nil) {
			t.Errorf("%s has no description or schema", p.name)
		}
		if !strings.Contains(string(text), "`"+p.name+"`") {
			t.Errorf("docs/%s does not name `%s`", doc, p.name)
		}
	}
}
