package configs

import (
	"crypto/ed25519"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/cluster"
)

func hostKey(t testing.TB) string {
	t.Helper()
	key, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public())
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// world is an environment with a settings file.
func world(t testing.TB, text string, env map[string]string) (SettingsInput, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"HOME": "/home/me", "LEVIN_CONFIG": file}
	for k, v := range env {
		all[k] = v
	}
	return input(all), file
}

func input(env map[string]string) SettingsInput {
	return SettingsInput{Dir: "/work-dir", Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }}
}

func TestSettingsEveryKey(t *testing.T) {
	key := hostKey(t)
	in, file := world(t, `
home: state
cloud: rack,local
lease: 30s
max_machines: 4
max_terraform: 2
terraform: ~/bin/tofu
stop_timeout: 1m
lost_after: 45s
location: aws/eu-west-1
ingress: [203.0.113.7, "2001:db8::1", 10.0.0.0/8, 0.0.0.0/0, 203.0.113.7/32]
state:
  backend: s3
  config: {bucket: states, key: "levin/${run}/${group}.tfstate", encrypt: true, max_retries: 3, endpoints: {s3: "https://s3.example.com"}, allowed_account_ids: ["1"]}
  env: [AWS_PROFILE, AWS_REGION, AWS_PROFILE]
clouds:
  gcp: {project: my-project, regions: us-central1, role: me@my-project.iam.gserviceaccount.com, proxy_command: "gcloud compute start-iap-tunnel %n %p --zone=%z --listen-on-stdin"}
  lab:
    module: ./tf/lab/
    offers: offers.csv
    regions: [lab]
    private: true
    image: golden
    user: ubuntu
    identity: ~/.ssh/lab
    proxy_jump: gate
    variables: {size: 3, names: [a, true], tags: {team: ml}}
    env: LAB_TOKEN
    shared: true
  rack:
    module: ssh
    price: 0.5
    hosts:
      - address: 10.0.0.1
      - {name: big, address: "fe80::1%eth0", port: 2222, user: me, identity: ~/.ssh/id, host_key: `+key+`, proxy_jump: "me@a:22,[::1]:2,b",
         slots: 4, cpus: 8, memory: 64GB, disk: 1TB, gpu: "a100:2", arch: arm64, price: 1.5}
      - {address: Node_2.example.com, proxy_command: "nc %h %p", identity: keys/id, gpu: 4090}
  local: {price: 0.1}
`, nil)
	got, err := LoadSettings(in)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Dir(file)
	want := Settings{
		Home: filepath.Join(dir, "state"), Cloud: "rack,local", Lease: 30 * time.Second, MaxMachines: 4, MaxTerraform: 2,
		Terraform: "/home/me/bin/tofu", StopTimeout: time.Minute, LostAfter: 45 * time.Second,
		Location: "aws/eu-west-1", Ingress: []string{"203.0.113.7/32", "2001:db8::1/128", "10.0.0.0/8", "0.0.0.0/0"},
		State: &StateSettings{
			Backend: "s3", Env: []string{"AWS_PROFILE", "AWS_REGION"},
			Config: map[string]any{
				"bucket": "states", "key": "levin/${run}/${group}.tfstate", "encrypt": true, "max_retries": 3.0,
				"endpoints": map[string]any{"s3": "https://s3.example.com"}, "allowed_account_ids": []any{"1"},
			},
		},
		Clouds: map[string]CloudSettings{
			"local": {Module: "local", Price: 0.1},
			"aws":   {Module: "aws"},
			"gcp": {
				Module: "gcp", Project: "my-project", Regions: []string{"us-central1"}, Role: "me@my-project.iam.gserviceaccount.com",
				ProxyCommand: "gcloud compute start-iap-tunnel %n %p --zone=%z --listen-on-stdin",
			},
			"lab": {
				Module: filepath.Join(dir, "tf/lab"), Offers: filepath.Join(dir, "offers.csv"), Regions: []string{"lab"}, Private: true, Image: "golden",
				User: "ubuntu", Identity: "/home/me/.ssh/lab", ProxyJump: "gate", Env: []string{"LAB_TOKEN"}, Shared: true,
				Variables: map[string]any{"size": 3.0, "names": []any{"a", true}, "tags": map[string]any{"team": "ml"}},
			},
			"rack": {Module: "ssh", Price: 0.5, Hosts: []Host{
				{Name: "10-0-0-1", Address: "10.0.0.1", Slots: 1, Arch: "amd64"},
				{Name: "big", Address: "fe80::1%eth0", Port: 2222, User: "me", Identity: "/home/me/.ssh/id", HostKey: key, ProxyJump: "me@a:22,[::1]:2,b",
					Slots: 4, CPUs: 8, Memory: 64, Disk: 1024, GPU: "a100:2", Arch: "arm64", Price: 1.5},
				{Name: "node-2-example-com", Address: "Node_2.example.com", ProxyCommand: "nc %h %p", Identity: filepath.Join(dir, "keys/id"), GPU: "4090", Slots: 1, Arch: "amd64"},
			}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSettingsPrecedence(t *testing.T) {
	text := "home: /file\nlease: 1m\nmax_machines: 3\nterraform: /file/tofu\nclouds: {rack: {module: ssh, hosts: [{address: a}]}}\n"
	env := map[string]string{"LEVIN_HOME": "env", "LEVIN_LEASE": "2m", "LEVIN_MAX_TERRAFORM": "7", "LEVIN_STOP_TIMEOUT": "9s", "LEVIN_CLOUD": "rack", "LEVIN_TERRAFORM": "tofu", "LEVIN_MAX_MACHINES": "", "LEVIN_LOST_AFTER": "8s", "LEVIN_LOCATION": "gcp/us-central1"}
	in, _ := world(t, text, env)
	in.Flags = map[string]string{"home": "flag", "cloud": "local"}
	got, err := LoadSettings(in)
	if err != nil {
		t.Fatal(err)
	}
	got.Clouds = nil
	want := Settings{Home: "/work-dir/flag", Cloud: "local", Lease: 2 * time.Minute, MaxMachines: 3, MaxTerraform: 7, Terraform: "tofu", StopTimeout: 9 * time.Second, LostAfter: 8 * time.Second, Location: "gcp/us-central1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	in.Flags = nil
	if got, err = LoadSettings(in); err != nil || got.Home != "/work-dir/env" || got.Cloud != "rack" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestSettingsDefaults(t *testing.T) {
	data := "/home/me/.local/share/levin"
	if runtime.GOOS == "darwin" {
		data = "/home/me/Library/Application Support/levin"
	}
	for home, env := range map[string]map[string]string{
		data:          {"HOME": "/home/me"},
		"/data/levin": {"HOME": "/home/me", "XDG_DATA_HOME": "/data", "XDG_CONFIG_HOME": "relative is ignored"},
		"/own":        {"LEVIN_HOME": "/own"},
	} {
		got, err := LoadSettings(input(env))
		if err != nil {
			t.Fatal(err)
		}
		want := Settings{Home: home, Cloud: "local", Lease: 10 * time.Minute, MaxMachines: 16, StopTimeout: 5 * time.Minute, LostAfter: 2 * time.Minute,
			Clouds: map[string]CloudSettings{"local": {Module: "local"}, "aws": {Module: "aws"}, "gcp": {Module: "gcp"}}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	if _, err := LoadSettings(input(nil)); err == nil || !strings.Contains(err.Error(), "set LEVIN_HOME") {
		t.Errorf("without any folder: %v", err)
	}

	// The file is found in the user's config folder.
	config := t.TempDir()
	if err := os.Mkdir(filepath.Join(config, "levin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config, "levin", "settings.yaml"), []byte("lease: 3s"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := LoadSettings(input(map[string]string{"HOME": "/home/me", "XDG_CONFIG_HOME": config}))
	if err != nil || got.Lease != 3*time.Second {
		t.Errorf("%+v, %v", got, err)
	}
	// An empty file is as good as none; one that was named must be there.
	in, _ := world(t, "# nothing\n", nil)
	if _, err := LoadSettings(in); err != nil {
		t.Error(err)
	}
	_, err = LoadSettings(input(map[string]string{"HOME": "/home/me", "LEVIN_CONFIG": "gone.yaml"}))
	if err == nil || !strings.Contains(err.Error(), "could not read the settings /work-dir/gone.yaml") || !strings.Contains(err.Error(), "LEVIN_CONFIG names this file") {
		t.Error(err)
	}
}

func TestSettingsErrors(t *testing.T) {
	host := func(text string) string {
		return "clouds:\n  rack:\n    module: ssh\n    hosts:\n      - {" + text + "}\n"
	}
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "leese: 3s", `1:1: unknown key "leese" in the settings; did you mean lease?`},
		{"lease", "lease: 1s", `1:8: lease must be at least 2s, is 1s`},
		{"lease", "lease: 5", `1:8: lease must be a duration such as 90s, 15m or 2h, is "5"; did you mean 5s?`},
		{"lost_after", "lost_after: 900ms", `1:13: lost_after must be at least 1s, is 900ms`},
		{"lost_after", "lost_after: 0", `1:13: lost_after must be at least 1s, is 0`},
		{"tag", "home: !env HOME", `1:7: the tag !env is not supported; write the value without it`},
		{"stop_timeout", "stop_timeout: 0s", `1:15: stop_timeout must be above 0: clean-up needs time`},
		{"max_machines", "max_machines: 0", `1:15: max_machines must be between 1 and 1000000, is 0`},
		{"unknown cloud", "cloud: local, rak\nclouds: {rack: {module: ssh, hosts: [{address: a}]}}", `1:8: there is no cloud "rak"; the settings have aws, gcp, local, rack; did you mean rack?`},
		{"module", "clouds: {a: {module: azure}}", `1:22: module must be local, ssh, aws, gcp, or the folder of a module of your own, such as ./tf/lambda; is "azure"`},
		{"module", "clouds: {a: {module: gpc}}", `is "gpc"; did you mean gcp?`},
		{"no module", "clouds: {a: {price: 1}}", `1:10: cloud "a" has no module; it can be local, ssh, aws, gcp, or the folder of a module of your own, such as ./tf/lambda`},
		{"aws is aws", "clouds: {aws: {module: ./tf/aws, offers: o.csv}}", `1:24: the cloud aws is always of module aws; give this one another name`},
		{"key of gcp", "clouds: {aws: {project: p}}", `1:25: project has no meaning for module aws; only for module gcp`},
		{"key of aws", "clouds: {mine: {module: ./m, offers: o.csv, profile: p}}", `1:54: profile has no meaning for a module of your own; only for module aws`},
		{"key of clouds", "clouds: {rack: {module: ssh, private: true, hosts: [{address: a}]}}", `1:39: private has no meaning for module ssh; only for module aws and module gcp and a module of your own`},
		{"no offers", "clouds: {mine: {module: ./m}}", `1:10: cloud "mine" has no offers`},
		{"two proxies of a cloud", "clouds: {gcp: {proxy_command: x, proxy_jump: b}}", `1:31: proxy_command and proxy_jump are two ways to one machine; keep one`},
		{"placeholder", "clouds: {gcp: {proxy_command: 'x %q'}}", `1:31: proxy_command can hold %h, %i, %n, %p, %r, %z and %% for a percent sign, holds "%q"`},
		{"placeholder", "clouds: {gcp: {proxy_command: 'x %'}}", `holds "%"`},
		{"endpoint", "clouds: {aws: {endpoint: 'localhost:5000'}}", `1:26: endpoint must be a URL such as http://localhost:5000, without user and password`},
		{"endpoint with password", "clouds: {aws: {endpoint: 'http://u:hidden@x'}}", `1:26: endpoint must be a URL such as http://localhost:5000, without user and password`},
		{"blanks", "clouds: {aws: {network: vpc 1}}", `1:25: network cannot hold blanks, is "vpc 1"`},
		{"private", "clouds: {aws: {private: yes please}}", `1:25: private must be true or false, is "yes please"`},
		{"regions", "clouds: {aws: {regions: []}}", `1:25: regions is an empty list; leave it out`},
		{"variable name", "clouds: {m: {module: ./m, offers: o, variables: {a b: 1}}}", `1:50: "a b" is not the name of a Terraform variable`},
		{"variable is null", "clouds: {m: {module: ./m, offers: o, variables: {a: }}}", `a has no value; write "" for empty text`},
		{"variable is a date", "clouds: {m: {module: ./m, offers: o, variables: {a: 0x10}}}", `1:53: a must be a decimal number or text in quotes, is "0x10"`},
		{"secret variable", "clouds: {m: {module: ./m, offers: o, variables: {login: {api_key: hidden}}}}", `1:67: api_key of variables is a credential by its name, which Terraform would write to its files; put it into a variable of your environment and name that in env`},
		{"env value", "clouds: {m: {module: ./m, offers: o, env: ['A=hidden']}}", `env lists names of variables, not their values`},
		{"env name", "clouds: {m: {module: ./m, offers: o, env: [a-b]}}", `"a-b" is not the name of a variable`},
		{"own env", "clouds: {m: {module: ./m, offers: o, env: LEVIN_HOME}}", `LEVIN_HOME: names beginning with LEVIN_ are Levin's own`},
		{"env of Terraform", "clouds: {m: {module: ./m, offers: o, env: TF_LOG}}", `TF_LOG: of Terraform's own variables only TF_HTTP_… and TF_TOKEN_… are passed on`},
		{"location", "location: us-east-1", `1:11: location must be a region of a cloud such as aws/us-east-1 or gcp/us-central1, is "us-east-1"; leave it out when this computer is in none`},
		{"ingress", "ingress: me", `1:10: ingress must be addresses or CIDRs such as 203.0.113.7 or 203.0.113.0/24, is "me"`},
		{"ingress zone", "ingress: 'fe80::1%eth0'", `1:10: ingress must be addresses or CIDRs`},
		{"wide ingress", "ingress: [203.0.113.7/0]", `1:11: "203.0.113.7/0" is part of a larger network; write the network, or the address with /32; did you mean 0.0.0.0/0?`},
		{"no ingress", "ingress: []", `1:10: ingress is an empty list; leave it out`},
		{"backend", "state: {backend: s4, config: {key: '${group}'}}", `1:18: backend must be s3 or gcs or azurerm or pg or http or consul or kubernetes or cos or oss, is "s4"; did you mean s3?`},
		{"no backend", "state: {config: {key: '${group}'}}", `1:8: state has no backend; it can be s3, gcs,`},
		{"no config", "state: {backend: s3}", `1:8: state has no config; one of its values must hold ${group}, since each group has a state of its own`},
		{"argument", "state: {backend: s3, config: {key: '${group}', a b: x}}", `1:48: "a b" is not the name of a backend's argument`},
		{"one state for all", "state: {backend: s3, config: {key: 'levin/${run}'}}", `1:30: no value of config holds ${group}, so that all groups would share one state`},
		{"placeholder of state", "state: {backend: s3, config: {key: '${grup}/${group}'}}", `1:36: config can hold ${run} and ${group}, holds "${grup}"`},
		{"secret key", "state: {backend: s3, config: {key: '${group}', secret_key: hidden}}", `1:60: secret_key of config is a credential by its name, which Terraform would write to its files; put it into a variable of your environment and name that in state.env`},
		{"access key", "state: {backend: s3, config: {key: '${group}', access_key: hidden}}", `1:60: access_key of config is a credential`},
		{"token", "state: {backend: consul, config: {path: '${group}', access_token: hidden}}", `access_token of config is a credential`},
		{"password", "state: {backend: http, config: {address: 'https://x/${group}', password: hidden}}", `password of config is a credential`},
		{"password in a URL", "state: {backend: pg, config: {schema_name: '${group}', conn_str: 'postgres://u:hidden@db/x'}}", `1:66: conn_str of config holds a password or a key, which`},
		{"password in a connection", "state: {backend: pg, config: {schema_name: '${group}', conn_str: 'host=db password=hidden'}}", `1:66: conn_str of config holds a password or a key, which`},
		{"key file", "state: {backend: gcs, config: {bucket: b, prefix: '${group}', credentials: hidden}}", `credentials of config is a credential by its name`},
		{"key in a value", `state: {backend: gcs, config: {bucket: b, prefix: '${group}', file: '{"private_key": "hidden"}'}}`, `file of config holds a password or a key`},
		{"cloud name", "clouds: {A_b: {module: local}}", `1:10: the cloud's name "A_b" must be lower case letters, digits and dashes, not beginning or ending with a dash; did you mean a-b?`},
		{"local is local", "clouds: {local: {module: ssh, hosts: [{address: a}]}}", `1:26: the cloud local is always of module local; give this one another name`},
		{"hosts of local", "clouds: {a: {module: local, hosts: [{address: a}]}}", `1:36: hosts has no meaning for module local; only for module ssh`},
		{"no hosts", "clouds: {a: {module: ssh}}", `1:10: cloud "a" has no hosts`},
		{"empty hosts", "clouds: {a: {module: ssh, hosts: []}}", `1:34: hosts is empty`},
		{"list of clouds", "clouds: [a]", `1:9: clouds must be a mapping of names to clouds, is a list`},
		{"negative price", "clouds: {a: {module: local, price: -1}}", `1:36: price cannot be negative, is -1`},
		{"list", "- a", `1:1: the settings must be a mapping, is a list`},
		{"syntax", "a: [", `: not valid YAML: `},
		{"no address", host("name: a"), `5:9: the host has no address`},
		{"host key name", host("address: a, slot: 2"), `5:22: unknown key "slot" in host; did you mean slots?`},
		{"slots", host("address: a, slots: 0"), `5:29: slots must be between 1 and 1000000, is 0`},
		{"user in address", host("address: me@a"), `5:19: address must be a host alone; put the user into user`},
		{"port in address", host("address: 'a:22'"), `5:19: address must be a host alone, is "a:22"; put the port into port`},
		{"option as address", host("address: -oProxyCommand=x"), `5:19: "-oProxyCommand=x" is not the address of a host`},
		{"option as user", host("address: a, user: -l"), `5:28: "-l" is not the name of a user`},
		{"port", host("address: a, port: 65536"), `5:28: port must be between 1 and 65535, is 65536`},
		{"host_key", host("address: a, host_key: ssh-ed25519 AAAA"), `5:32: host_key is not one public key such as ssh-ed25519 AAAA…; ssh-keyscan HOST prints it after the host's name`},
		{"proxy_jump", host("address: a, proxy_jump: '-x'"), `5:34: proxy_jump must be [user@]host[:port], or several with commas, is "-x"`},
		{"proxy_jump", host("address: a, proxy_jump: 'a:99999'"), `5:34: proxy_jump must be`},
		{"two proxies", host("address: a, proxy_command: x, proxy_jump: b"), `5:37: proxy_command and proxy_jump are two ways to one host; keep one`},
		{"gpu", host("address: a, gpu: 2"), `5:27: gpu of a host must be MODEL[:COUNT], is "2"`},
		{"gpu", host("address: a, gpu: 24GB.."), `5:27: gpu of a host must be MODEL[:COUNT], is "24GB.."`},
		{"gpu", host("address: a, gpu: 'A100:x'"), `5:27: gpu must be MODEL[:COUNT] with a whole COUNT from 1, is "A100:x"`},
		{"memory", host("address: a, memory: 1GB.."), `5:30: memory of a host is one size, not a range`},
		{"arch", host("address: a, arch: x86"), `5:28: arch must be amd64 or arm64, is "x86"`},
		{"proxy_command", host("address: a, proxy_command: 'nc %i'"), `5:37: proxy_command can hold %h, %n, %p, %r and %% for a percent sign, holds "%i"`},
		{"same name", host("address: a") + "      - {address: b, name: a}\n", `6:28: two hosts have the name "a"; the other is on line 5`},
		{"no name", host("address: ö"), `5:9: no name can be made from the address "ö"; give the host a name`},
	} {
		t.Run(c.name, func(t *testing.T) {
			in, file := world(t, c.text, nil)
			_, err := LoadSettings(in)
			var all Errors
			if cluster.KindOf(err) != cluster.BadInput || !errors.As(err, &all) {
				t.Fatalf("got %v; want %s", err, c.want)
			}
			if strings.Contains(err.Error(), "hidden") {
				t.Errorf("the error shows a secret: %v", err)
			}
			if !strings.Contains(err.Error(), c.want) || len(all) != 1 || all[0].File != file {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}

	in, _ := world(t, "", map[string]string{"LEVIN_LEASE": "1s", "LEVIN_MAX_MACHINES": "many"})
	in.Flags = map[string]string{"cloud": "rack", "homes": "x"}
	_, err := LoadSettings(in)
	for _, want := range []string{
		"LEVIN_LEASE: lease must be at least 2s, is 1s", `LEVIN_MAX_MACHINES: max_machines must be a whole number, is "many"`,
		`--cloud: there is no cloud "rack"; the settings have aws, gcp, local`, "--homes: there is no such setting; did you mean home?",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
}

// Each piece of settings in the docs is one that Levin takes.
func TestSettingsOfTheDocs(t *testing.T) {
	for _, doc := range []string{"clouds.md", "settings.md"} {
		text, err := os.ReadFile(filepath.Join("../docs", doc))
		if err != nil {
			t.Fatal(err)
		}
		pieces := 0
		for _, block := range regexp.MustCompile("(?ms)^ *```yaml\n(.*?)^ *```$").FindAllStringSubmatch(string(text), -1) {
			piece := dedent(block[1])
			switch {
			case strings.HasPrefix(piece, "title:"):
				continue // a role of GCP
			case strings.HasPrefix(piece, "aws:"), strings.HasPrefix(piece, "gcp:"):
				piece = "clouds:\n  " + strings.ReplaceAll(piece, "\n", "\n  ")
			}
			all := []string{piece}
			if strings.Count(piece, "state:") > 1 {
				all = strings.Split(strings.TrimSpace(piece), "\n") // one a line
			}
			for _, piece := range all {
				pieces++
				in, _ := world(t, piece, nil)
				if _, err := LoadSettings(in); err != nil {
					t.Errorf("docs/%s: %v\n%s", doc, err, piece)
				}
			}
		}
		if pieces < 2 {
			t.Errorf("docs/%s has %d pieces of settings", doc, pieces)
		}
	}
}

// dedent takes the blanks that the first line begins with from all.
func dedent(text string) string {
	blanks := text[:len(text)-len(strings.TrimLeft(text, " "))]
	return strings.TrimPrefix(strings.ReplaceAll(text, "\n"+blanks, "\n"), blanks)
}

func FuzzSettings(f *testing.F) {
	f.Add("lease: 3s\ncloud: rack\nclouds: {rack: {module: ssh, hosts: [{address: a, gpu: T4, memory: 4GB, proxy_jump: b}]}}", "2s")
	f.Add("home: ~/x\nterraform: ./tofu\nclouds: {local: {price: 1}, b: &b {module: local}, c: *b}", "")
	f.Add("max_machines: 1e9\nclouds: {a: {module: ssh, hosts: [{address: '::1'}, {address: 1.2.3.4}]}}", "x")
	f.Add("ingress: [1.2.3.4, '::/0']\nlocation: aws/a\nstate: {backend: pg, config: {schema_name: '${group}', conn_str: 'postgres://u@h/d?sslmode=a'}, env: PGPASSWORD}", "")
	f.Add("clouds: {aws: {regions: a, private: true, proxy_command: 'x %i %%'}, m: {module: ./m, offers: o, variables: {a: [1, {b: x}]}, env: [A]}}", "")
	file := filepath.Join(f.TempDir(), "settings.yaml")
	f.Fuzz(func(t *testing.T, text, lease string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := LoadSettings(input(map[string]string{"HOME": "/home/me", "LEVIN_CONFIG": file, "LEVIN_LEASE": lease}))
		if err != nil {
			if cluster.KindOf(err) != cluster.BadInput {
				t.Fatalf("kind %q: %v", cluster.KindOf(err), err)
			}
			return
		}
		if !filepath.IsAbs(s.Home) || s.Lease < minLease || s.StopTimeout <= 0 || s.LostAfter < minLostAfter || s.MaxMachines < 1 || s.Clouds["local"].Module != "local" {
			t.Fatalf("%+v", s)
		}
		for _, cidr := range s.Ingress {
			if p, err := netip.ParsePrefix(cidr); err != nil || p != p.Masked() {
				t.Fatalf("ingress %v", s.Ingress)
			}
		}
		if s.State != nil && (s.State.Backend == "" || len(s.State.Config) == 0) {
			t.Fatalf("%+v", s.State)
		}
		for _, c := range s.Clouds {
			own := strings.Contains(c.Module, "/")
			if c.Module == "" || own != filepath.IsAbs(c.Module) || own != (c.Offers != "") || c.ProxyJump != "" && c.ProxyCommand != "" {
				t.Fatalf("%+v", c)
			}
			for _, h := range c.Hosts {
				if !isLabel(h.Name) || h.Address == "" || h.Slots < 1 || strings.HasPrefix(h.Address, "-") || h.ProxyJump != "" && h.ProxyCommand != "" {
					t.Fatalf("%+v", h)
				}
			}
		}
	})
}
