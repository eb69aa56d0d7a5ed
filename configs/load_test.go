package configs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/levinrun/levin/cluster"
)

// write makes an app's folder: app.yaml, a file data and a folder src with main.
func write(t testing.TB, text string) string {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "src"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"app.yaml": text, "data": "1", "src/main": "2"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoadEveryKey(t *testing.T) {
	dir := write(t, `
name: every-key
env: {SEED: 7, FAST: true, NAME: "x y"}
on_failure: continue
max_parallel: 3
ttl: 36h
components:
  train:
    resources:
      gpu: t4:2
      cpus: 4..
      memory: 16..32GB
      disk: 1TB
      arch: arm64
      machine: g4dn.xlarge
      cloud: [aws, gcp]
      region: us-east-1
      zone: [use1-az1, us-central1-a]
      max_price: 2.5
      spot: auto
      any_of: [{gpu: A100, spot: only}, gpu-fast, {spot: never, gpu: {model: [h100, l4], memory: 24GB.., count: 4}}, {memory: ..512MB}]
    files: [./src/, data, new/thing]
    build: make
    setup: pip install x
    run: python train.py "CPU machine 1"
    outputs: [./model.pt, "logs/**/*.txt"]
    checkpoint: ./ckpt/
    output_size: 20GB
    ports: [8000, 6006]
    env: {SEED: 8}
    retries: 2
    timeout: 1h30m
    start_timeout: 1m
    idle_timeout: 5s
    grace: 0
    max_machines: 2
    nodes: 1
  evaluate:
    resources: gpu
    for_each: [svm, 1, true]
    needs: train
    run: [./evaluate, "${each}", 0.5, "${train.result.a.b-c}"]
    env: {WHAT: "${each} of ${train.result}"}
  report:
    needs: [train, evaluate]
    run: cat ${evaluate.result.svm}
`)
	app, err := Load(dir, []string{"components.train.retries=5", "components.report.files=[]", "components.evaluate.for_each.0=SVM", "components.report.env.A=b=c"})
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"SEED": "7", "FAST": "true", "NAME": "x y"}
	with := func(key, value string) map[string]string { return mergeEnv(env, map[string]string{key: value}) }
	want := &App{
		Name: "every-key", Env: env, OnFailure: Continue, MaxParallel: 3, TTL: 36 * time.Hour, Dir: dir, File: filepath.Join(dir, "app.yaml"),
		Components: []Component{{
			Name: "train",
			Resources: Resources{
				GPU: &GPU{Models: []string{"T4"}, Count: 2}, CPUs: Range{Min: 4}, Memory: Range{16, 32}, Disk: Range{1024, 1024},
				Arch: "arm64", Machine: "g4dn.xlarge", Clouds: []string{"aws", "gcp"}, Regions: []string{"us-east-1"},
				Zones: []string{"use1-az1", "us-central1-a"}, MaxPrice: 2.5,
				AnyOf: []Resources{
					{GPU: &GPU{Models: []string{"A100"}, Count: 1}, Spot: SpotOnly},
					{Size: "gpu-fast", GPU: &GPU{Models: []string{"V100", "A10G", "L40S", "A100", "H100"}, Count: 1}, CPUs: Range{Min: 8}, Memory: Range{Min: 32}, Spot: SpotAuto},
					{GPU: &GPU{Models: []string{"H100", "L4"}, Count: 4, Memory: Range{Min: 24}}},
					{Memory: Range{Max: 0.5}, Spot: SpotAuto},
				},
			},
			MaxMachines: 2, Files: []string{"src", "data", "new/thing"}, Build: "make", Setup: "pip install x",
			Run: Command{Shell: `python train.py "CPU machine 1"`}, Outputs: []string{"model.pt", "logs/**/*.txt"},
			Checkpoint: []string{"ckpt"}, OutputSize: 20, Ports: []int{8000, 6006}, Env: with("SEED", "8"),
			Retries: 5, Timeout: 90 * time.Minute, StartTimeout: time.Minute, IdleTimeout: 5 * time.Second, Grace: time.Millisecond,
		}, {
			Name:      "evaluate",
			Resources: Resources{Size: "gpu", GPU: &GPU{Models: []string{"T4", "L4"}, Count: 1}, CPUs: Range{Min: 4}, Memory: Range{Min: 16}},
			ForEach:   []string{"SVM", "1", "true"}, Needs: []string{"train"}, Files: []string{"."},
			Run: Command{Args: []string{"./evaluate", "${each}", "0.5", "${train.result.a.b-c}"}}, Env: with("WHAT", "${each} of ${train.result}"),
			StartTimeout: 15 * time.Minute, Grace: 10 * time.Second,
		}, {
			Name: "report", Needs: []string{"train", "evaluate"}, Files: []string{}, Run: Command{Shell: "cat ${evaluate.result.svm}"},
			Env: with("A", "b=c"), StartTimeout: 15 * time.Minute, Grace: 10 * time.Second,
		}},
	}
	if diff := cmp.Diff(want, app); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	filled := app.WithDefaults(Settings{MaxMachines: 9})
	if got := []int{filled.Components[0].MaxMachines, filled.Components[1].MaxMachines, app.Components[1].MaxMachines}; !cmp.Equal(got, []int{2, 9, 0}) {
		t.Errorf("machines %v", got)
	}
}

func TestLoadErrors(t *testing.T) {
	// Each app is put below this head, so that line 3 is its first line.
	const head = "name: x\ncomponents:\n"
	long := strings.Repeat("a", 41)
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "  a: {run: x, retires: 2}", `3:15: unknown key "retires" in component "a"; did you mean retries?`},
		{"nothing near", "  a: {run: x, zzzzzz: 2}", `3:15: unknown key "zzzzzz" in component "a"; it can have resources, needs, `},
		{"unknown top key", "  a: {run: x}\non_failur: cancel", `4:1: unknown key "on_failur" in the app; did you mean on_failure?`},
		{"unknown resource", "  a: {run: x, resources: {cpu: 2}}", `3:27: unknown key "cpu" in resources; did you mean cpus?`},
		{"unknown gpu key", "  a: {run: x, resources: {gpu: {modle: T4}}}", `3:33: unknown key "modle" in gpu; did you mean model?`},
		{"twice", "  a: {run: x}\n  a: {run: y}", `4:3: the key "a" is here twice; it is also on line 3`},
		{"upper case", "  Train_It: {run: x}", `3:3: the component's name "Train_It" must be lower case letters, digits and dashes, not beginning or ending with a dash; did you mean train-it?`},
		{"long name", "  " + long + ": {run: x}", `3:3: the component's name "` + long + `" is longer than 40 letters`},
		{"no run", "  a: {retries: 2}", `3:3: component "a" has no run`},
		{"blank run", "  a: {run: ' '}", `3:12: run is empty`},
		{"null run", "  a: {run: }", `3:7: run has no value`},
		{"empty argv", "  a: {run: []}", `3:12: run is an empty list`},
		{"argv without program", "  a: {run: ['', x]}", `3:13: run names no program`},
		{"nested argv", "  a: {run: [x, [y]]}", `3:16: run must be text, is a list`},
		{"run is a number", "  a: {run: 5}", `3:12: run must be text, is the number 5; did you mean "5" in quotes?`},
		{"component is text", "  a: x", `3:6: component "a" must be a mapping, is "x"`},
		{"unknown need", "  train: {run: x}\n  b: {run: x, needs: [trian]}", `4:23: component "b" needs "trian", which is not there; did you mean train?`},
		{"self", "  a: {run: x, needs: a}", `3:22: component a needs itself`},
		{"need twice", "  a: {run: x}\n  b: {run: x, needs: [a, a]}", `4:26: "a" is in the needs of b twice`},
		{"cycle", "  a: {run: x, needs: [c]}\n  b: {run: x, needs: [a]}\n  c: {run: x, needs: [b]}", `4:23: components need each other in a circle: a → c → b → a`},
		{"inverted range", "  a: {run: x, resources: {cpus: 8..2}}", `3:33: cpus is an empty range: 8 is above 2`},
		{"empty range", "  a: {run: x, resources: {cpus: ..}}", `3:33: cpus is an empty range`},
		{"negative range", "  a: {run: x, resources: {cpus: -1..}}", `3:33: cpus cannot be negative`},
		{"zero", "  a: {run: x, resources: {memory: 0GB}}", `3:35: memory must be above 0`},
		{"cpu unit", "  a: {run: x, resources: {cpus: 4GB}}", `3:33: cpus takes no unit, has "GB"`},
		{"unknown unit", "  a: {run: x, resources: {memory: 4GX}}", `3:35: memory has an unknown unit "GX"; it can be MB, GB or TB`},
		{"not a range", "  a: {run: x, resources: {memory: lots}}", `3:35: memory must be N, N.., ..M or N..M with a unit, such as 16GB.. or 512MB..2TB, not "lots"`},
		{"mixed units", "  a: {run: x, resources: {memory: 2GB..512MB}}", `3:35: memory is an empty range: 2GB is above 512MB`},
		{"huge", "  a: {run: x, resources: {cpus: 1e300..}}", `3:33: cpus must be N, N..`},
		{"gpu number", "  a: {run: x, resources: {gpu: 2}}", `3:32: gpu must name a model, is "2"; for 2 GPUs of any model write {count: 2}`},
		{"gpu fraction", "  a: {run: x, resources: {gpu: 4090.5}}", `3:32: gpu must be MODEL[:COUNT] or memory such as 24GB.., is "4090.5"`},
		{"gpu truth value", "  a: {run: x, resources: {gpu: true}}", `3:32: gpu must name a model, is true; for one GPU of any model write {count: 1}`},
		{"gpu count", "  a: {run: x, resources: {gpu: 'T4:0'}}", `3:32: gpu must be MODEL[:COUNT] with a whole COUNT from 1, is "T4:0"`},
		{"gpu count", "  a: {run: x, resources: {gpu: {count: 0}}}", `3:40: count must be between 1 and 1000000, is 0`},
		{"gpu range", "  a: {run: x, resources: {gpu: 48GB..24GB}}", `3:32: gpu is an empty range: 48GB is above 24GB`},
		{"arch", "  a: {run: x, resources: {arch: amd46}}", `3:33: arch must be amd64 or arm64, is "amd46"; did you mean amd64?`},
		{"size", "  a: {run: x, resources: gpu-fsat}", `3:26: resources must be a mapping or a size (cpu-small, cpu, cpu-medium, gpu, gpu-fast, gpu-fast-multi), is "gpu-fsat"; did you mean gpu-fast?`},
		{"spot", "  a: {run: x, resources: {spot: always}}", `3:33: spot must be never or auto or only, is "always"`},
		{"empty zones", "  a: {run: x, resources: {zone: []}}", `3:33: zone is an empty list; leave it out`},
		{"short ttl", "  a: {run: x}\nttl: 30s", `4:6: ttl must be at least 1m0s, is 30s`},
		{"long ttl", "  a: {run: x}\nttl: 2881h", `4:6: ttl must be at most 2880h (120 days), is 2881h`},
		{"ttl of a component", "  a: {run: x, ttl: 1h}", `3:15: unknown key "ttl" in component "a"`},
		{"checkpoint out", "  a: {run: x, checkpoint: [../x]}", `3:28: checkpoint of a: "../x" leaves the folder`},
		{"checkpoint expression", "  a: {run: x, for_each: [b], checkpoint: 'm-${each}'}", `3:42: checkpoint of a: "m-${each}" holds ${each}, but checkpoint cannot hold expressions; use a fixed name`},
		{"output_size", "  a: {run: x, output_size: 1GB..2GB}", `3:28: output_size is one size, not a range`},
		{"output_size", "  a: {run: x, output_size: big}", `3:28: output_size must be N, N..`},
		{"port", "  a: {run: x, ports: 65536}", `3:22: a port must be between 1 and 65535, is 65536`},
		{"port", "  a: {run: x, ports: [http]}", `3:23: a port must be a whole number, is "http"`},
		{"port 22", "  a: {run: x, ports: [80, 22]}", `3:27: port 22 is open already, for Levin`},
		{"port twice", "  a: {run: x, ports: [80, 81, 80]}", `3:31: the port 80 is in ports twice; it is also on line 3`},
		{"no ports", "  a: {run: x, ports: []}", `3:22: ports is an empty list; leave it out`},
		{"price", "  a: {run: x, resources: {max_price: 0}}", `3:38: max_price must be above 0, is 0`},
		{"price", "  a: {run: x, resources: {max_price: .inf}}", `3:38: max_price must be a number, is the number .inf`},
		{"nested any_of", "  a: {run: x, resources: {any_of: [{any_of: []}]}}", `3:45: any_of cannot hold another any_of`},
		{"empty any_of", "  a: {run: x, resources: {any_of: []}}", `3:35: any_of is empty: no machine could satisfy it`},
		{"empty clouds", "  a: {run: x, resources: {cloud: []}}", `3:34: cloud is an empty list; leave it out`},
		{"nodes", "  a: {run: x, nodes: 2}", `3:22: nodes: 2 is not supported yet; only 1 is`},
		{"serve", "  a: {run: x, serve: {port: 8000}}", `3:15: serve is not supported yet`},
		{"schedule", "  a: {run: x}\nschedule: daily", `4:1: schedule is not supported yet`},
		{"engine", "  a: {run: x}\nengine: x", `4:1: engine is not supported yet`},
		{"replicas", "  a: {run: x, replicas: 2}", `3:15: replicas is not supported yet`},
		{"bad duration", "  a: {run: x, timeout: 5}", `3:24: timeout must be a duration such as 90s, 15m or 2h, is "5"; did you mean 5s?`},
		{"no time to start", "  a: {run: x, start_timeout: 0s}", `3:30: start_timeout must be above 0: a machine needs time to start`},
		{"negative duration", "  a: {run: x, grace: -1s}", `3:22: grace cannot be negative, is -1s`},
		{"retries", "  a: {run: x, retries: -1}", `3:24: retries must be between 0 and 1000000, is -1`},
		{"retries", "  a: {run: x, retries: 1.5}", `3:24: retries must be a whole number, is the number 1.5`},
		{"max_machines", "  a: {run: x, max_machines: 0}", `3:29: max_machines must be between 1 and 1000000, is 0`},
		{"empty for_each", "  a: {run: x, for_each: []}", `3:25: for_each is empty: there would be no call; leave it out for one call`},
		{"for_each twice", "  a: {run: x, for_each: [a, 1, '1']}", `3:32: the item "1" is in for_each twice; it is also on line 3`},
		{"for_each text", "  a: {run: x, for_each: abc}", `3:25: for_each must be a list, is "abc"`},
		{"absolute file", "  a: {run: x, files: [/etc/passwd]}", `3:23: files of a: "/etc/passwd" must be relative`},
		{"leaving file", "  a: {run: x, files: [src/../../x]}", `3:23: files of a: "src/../../x" leaves the folder`},
		{"missing file", "  a: {run: x, files: [nope]}", `3:23: files of a: "nope" does not exist`},
		{"glob file", "  a: {run: x, files: ['*.py']}", `3:23: files of a: "*.py" does not exist; globs are not expanded here, so name the folder`},
		{"link out", "  a: {run: x, files: [out]}", `3:23: files of a: "out" leaves the app's folder through a symbolic link`},
		{"through a link", "  a: {run: x, build: y, files: [out/new/file]}", `3:33: files of a: "out/new/file" leaves the app's folder through a symbolic link`},
		{"link to nowhere", "  a: {run: x, build: y, files: [nowhere]}", `3:33: files of a: "nowhere" is a symbolic link to nowhere`},
		{"below a file", "  a: {run: x, build: y, files: [data/x]}", `3:33: files of a: "data/x" cannot be read: `},
		{"output out", "  a: {run: x, outputs: [../x]}", `3:25: outputs of a: "../x" leaves the folder`},
		{"output everything", "  a: {run: x, outputs: .}", `3:24: outputs of a: "." is the whole work folder; name what is in it, or ** for everything`},
		{"output glob", "  a: {run: x, outputs: ['[a']}", `3:25: outputs of a: "[a" is not a valid glob`},
		{"output stars", "  a: {run: x, outputs: ['a**/b']}", `3:25: outputs of a: "a**/b" is not a valid glob: ** must stand alone between slashes`},
		{"output expression", "  a: {run: x, for_each: [b], outputs: ['m-${each}']}", `3:40: outputs of a: "m-${each}" holds ${each}, but outputs cannot hold expressions; use a fixed name: each call has its own artifact folder`},
		{"file expression", "  a: {run: x, for_each: [b], build: y, files: ['${each}/x']}", `3:48: files of a: "${each}/x" holds ${each}, but files cannot hold expressions; name the folder that has the files of all calls`},
		{"long file", "  a: {run: x, build: y, files: [" + strings.Repeat("a/", 600) + "]}", `3:33: files of a: "a/a/`},
		{"env name", "  a: {run: x, env: {a-b: 1}}", `3:21: "a-b" is not the name of a variable: letters, digits and _, not beginning with a digit`},
		{"own env", "  a: {run: x, env: {LEVIN_RUN: 1}}", `3:21: LEVIN_RUN: names beginning with LEVIN_ are Levin's own`},
		{"env null", "  a: {run: x, env: {A: }}", `3:21: A has no value; write "" for empty text`},
		{"env list", "  a: {run: x, env: {A: [1]}}", `3:24: A must be text, is a list`},
		{"env expression", "  a: {run: x, env: {A: '${b.result}'}}\n  b: {run: x}", `3:24: ${b.result}: b must be in the needs of a`},
		{"app env", "  a: {run: x}\nenv: {A: '${each}'}", `4:10: A: the env of the app cannot hold expressions such as ${each}; the env of a component can`},
		{"not in needs", "  a: {run: x}\n  b: {run: 'x ${a.result}'}", `4:12: ${a.result}: a must be in the needs of b`},
		{"own result", "  a: {run: 'x ${a.result.y}'}", `3:12: ${a.result.y}: a cannot use its own result, which is there only after it has ended`},
		{"own result in env", "  a: {run: x, env: {A: '${a.result}'}, retries: 1}", `3:24: ${a.result}: a cannot use its own result`},
		{"name like a call", "  train: {run: x, for_each: [a, b]}\n  train-1: {run: x}", `4:3: the name "train-1" is also that of a call of train, which has for_each; give one of them another name`},
		{"name like a call, first", "  train-07: {run: x}\n  train: {run: x, for_each: [a, b]}", `3:3: the name "train-07" is also`},
		{"no such component", "  abc: {run: x}\n  b: {needs: [abc], run: 'x ${acb.result.y}'}", `4:26: ${acb.result.y}: there is no component "acb"; did you mean abc?`},
		{"each", "  a: {run: 'x ${each}'}", `3:12: ${each} has no meaning without for_each; for the shell's own variable write $each`},
		{"malformed", "  a: {run: 'x ${a.result'}", `3:12: malformed expression "${a.result"; want ${each}, ${COMPONENT.result} or ${COMPONENT.result.FIELD}`},
		{"malformed", "  a: {run: 'x ${a.reslt}'}", `3:12: malformed expression "${a.reslt}"; want`},
		{"malformed", "  a: {run: [x, '${a.result.}']}", `3:16: malformed expression "${a.result.}"; want`},
		{"backticks", "  a: {for_each: [b], run: 'x `echo ${each}`'}", "3:27: ${each} cannot be used inside backticks; use $(…)"},
		{"setup", "  a: {run: x, for_each: [y], setup: 'z ${each}'}", `3:37: setup cannot hold expressions; they work in run and env, not ${each}`},
		{"zero byte", `  a: {run: "x\0"}`, `3:12: run holds a zero byte`},
		{"merge", "  a: {run: x, <<: 5}", `3:19: << can only merge a mapping or a list of mappings`},
		{"syntax", "  a: {run: x", `2:1: not valid YAML: did not find expected ',' or '}' near "components:"`},
		{"tab", "\ta: {run: x}", `3:2: not valid YAML: found character that cannot start any token near "a: {run: x}"`},
		{"on_failure", "  a: {run: x}\non_failure: stop", `4:13: on_failure must be cancel or continue, is "stop"`},
		{"no components", "  {}", `3:3: components is empty: there is nothing to run`},
		{"two documents", "  a: {run: x}\n---\nb: c", `a second document; the file must hold one`},
		{"tag", "  a: {run: !foo x}", `3:12: the tag !foo is not supported; write the value without it`},
		{"tag of a key", "  !foo a: {run: x}", `3:3: the tag !foo is not supported`},
		{"tag of a list", "  a: {run: !!seq [x]}", `3:12: the tag !!seq is not supported`},
		{"tag in an anchor", "  a: &a {run: x, env: !!omap {A: 1}}\n  b: *a", `3:23: the tag !!omap is not supported`},
		{"binary", "  a: {run: !!binary eA==}", `3:12: the tag !!binary is not supported`},
		{"self reference", "  a: &a {run: x, env: *a}", `3:23: the alias *a stands for something that holds itself`},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := write(t, head+c.text+"\n")
			for link, to := range map[string]string{"out": "..", "nowhere": "../nothing-here"} {
				if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Load(dir, nil)
			if err == nil {
				t.Fatalf("it was taken; want %s", c.want)
			}
			var all Errors
			if cluster.KindOf(err) != cluster.BadInput || !errors.As(err, &all) {
				t.Errorf("kind %q, errors %v", cluster.KindOf(err), all)
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
			if len(all) != 1 {
				t.Errorf("%d errors, want 1:\n%v", len(all), err)
			}
			if all[0].File != filepath.Join(dir, "app.yaml") {
				t.Errorf("in file %s", all[0].File)
			}
		})
	}
}

func TestLoadReportsEverything(t *testing.T) {
	dir := write(t, "name: Bad Name\ncomponents:\n  a: {needs: [b], retires: 1}\n  c: {run: x, timeout: soon}\n")
	file := filepath.Join(dir, "app.yaml")
	_, err := Load(dir, []string{"components.c.grace=-1s", "bad", "components.c.run.x=1", "components.c.env.A=[", "name2=y"})
	want := []string{
		file + `:1:7: the app's name "Bad Name" must be lower case letters, digits and dashes, not beginning or ending with a dash; did you mean bad-name?`,
		file + `:3:3: component "a" has no run`,
		file + `:3:15: component "a" needs "b", which is not there; did you mean c?`,
		file + `:3:19: unknown key "retires" in component "a"; did you mean retries?`,
		file + `:4:24: timeout must be a duration such as 90s, 15m or 2h, is "soon"`,
		`--set bad: want KEY=VALUE with a dotted KEY, such as components.train.retries=2`,
		`--set components.c.run.x=1: "x" is not in components.c.run, which is "x"`,
		`--set components.c.env.A=[: not valid YAML: did not find expected node content near "["`,
		`--set components.c.grace=-1s: grace cannot be negative, is -1s`,
		`--set name2=y: unknown key "name2" in the app; did you mean name?`,
	}
	var all Errors
	if !errors.As(err, &all) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, strings.Split(all.Error(), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, line := range want {
		if !strings.Contains(err.Error(), line) {
			t.Errorf("the failure lacks %s", line)
		}
	}
	for _, e := range all {
		if !errors.Is(err, e) {
			t.Errorf("errors.Is does not find %v", e)
		}
	}
}

func TestLoadFindsTheFile(t *testing.T) {
	dir := write(t, "name: x\ncomponents: {a: {run: x}}\n")
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, filepath.Join(dir, "app.yaml"), link} {
		app, err := Load(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if app.Dir != dir || app.File != filepath.Join(dir, "app.yaml") {
			t.Errorf("%s: folder %s, file %s", path, app.Dir, app.File)
		}
	}
	if err := os.Rename(filepath.Join(dir, "app.yaml"), filepath.Join(dir, "app.yml")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(dir, nil); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "src"):  "there is no app.yaml in",
		filepath.Join(dir, "gone"): "could not find the app",
		"/dev/null":                "it is not a regular file",
	} {
		if _, err := Load(path, nil); err == nil || !strings.Contains(err.Error(), want) || cluster.KindOf(err) != cluster.BadInput {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestLoadRefusesHostileFiles(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("name: x\nenv: &e0 {A: b}\ncomponents:\n  a0: &a0 [x, x]\n")
	for i := 1; i < 30; i++ {
		fmt.Fprintf(&bomb, "  a%d: &a%d [%s*a%d]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 9), i-1)
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":   {"", ":1:1: the file is empty; it needs at least name and components"},
		"null":    {"~", ":1:1: the file is empty"},
		"list":    {"- a", ":1:1: the app must be a mapping, is a list"},
		"bomb":    {bomb.String(), "aliases stand for more than 50000 values in all"},
		"deep":    {"name: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "nested more than 40 deep"},
		"deeper":  {strings.Repeat("[", 100_000), "not valid YAML: "},
		"large":   {"# " + strings.Repeat("x", maxFile), "it is larger than 4 MiB"},
		"binary":  {"\x00\x01\xff", "not valid YAML: "},
		"utf-16":  {"\xff\xfen\x00", "the app must be a mapping"},
		"errors":  {strings.Repeat("? [a]\n: b\n", 10_000), "a key must be text"},
		"numbers": {"1: 2\n2.5: 3\n~: 4", `unknown key "~" in the app`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(write(t, c.text), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %s", err, c.want)
			}
			var all Errors
			if errors.As(err, &all) && len(all) > maxErrors+10 {
				t.Errorf("%d errors were kept", len(all))
			}
		})
	}
}

func TestAliasesAndMerges(t *testing.T) {
	app, err := Load(write(t, `
name: x
components:
  a: &base {run: x, retries: 2, env: &env {A: 1, B: 2}, timeout: 1m}
  b: {<<: *base, retries: 3, env: {<<: [*env, {C: 3, A: 9}], B: 4}}
`), []string{"components.b.timeout=2m"})
	if err != nil {
		t.Fatal(err)
	}
	a, b := app.Components[0], app.Components[1]
	if a.Timeout != time.Minute || b.Timeout != 2*time.Minute || b.Run.Shell != "x" || b.Retries != 3 {
		t.Errorf("a %+v\nb %+v", a, b)
	}
	if diff := cmp.Diff(map[string]string{"A": "1", "B": "4", "C": "3"}, b.Env); diff != "" {
		t.Error(diff)
	}
}

// Truth values are programs too, and a model may be a number.
func TestLoadTakesScalarsAsWritten(t *testing.T) {
	app, err := Load(write(t, `
name: x
components:
  a: {build: true, setup: false, run: true, resources: {gpu: "4090"}}
  b: {run: [true], resources: {gpu: 4090, any_of: [{gpu: {model: [4090, "3090", 6]}}, {gpu: 4090:2}]}}
  train-1: {run: x}
  train: {run: x}
  more: {run: x, for_each: [a]}
  more-1a: {run: x}
`), []string{"components.train.resources.gpu=580"})
	if err != nil {
		t.Fatal(err)
	}
	a, b, train := app.Components[0], app.Components[1], app.Components[3]
	if a.Build != "true" || a.Setup != "false" || a.Run.Shell != "true" {
		t.Errorf("%+v", a)
	}
	one := &GPU{Models: []string{"4090"}, Count: 1}
	got := []*GPU{a.Resources.GPU, b.Resources.GPU, b.Resources.AnyOf[0].GPU, b.Resources.AnyOf[1].GPU, train.Resources.GPU}
	want := []*GPU{one, one, {Models: []string{"4090", "3090", "6"}, Count: 1}, {Models: []string{"4090"}, Count: 2}, {Models: []string{"580"}, Count: 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Files of a few hundred KB that cost minutes when work grows with the square of
// their size.
func TestLoadOfHostileFilesEnds(t *testing.T) {
	const n = 20_000
	lines := func(format string) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	var chain strings.Builder // each needs the next, and the last needs them all
	for i := range n {
		fmt.Fprintf(&chain, "  c%d: {run: x, needs: %s}\n", i, []string{fmt.Sprintf("c%d", i+1), "z"}[i/(n-1)])
	}
	names := "name: x\ncomponents:\n" + lines("  component-%d: {run: x}\n")
	for name, c := range map[string]struct{ text, want string }{
		"unknown needs": {names + "  z:\n    run: x\n    needs:\n" + lines("    - conponent-%d-\n"), `component "z" needs "conponent-0-", which is not there`},
		"not in needs":  {names + "  z: {run: '" + lines(" ${component-%d.result}") + "'}\n", "${component-0.result}: component-0 must be in the needs of z"},
		"circles":       {"name: x\ncomponents:\n" + chain.String() + "  z:\n    run: x\n    needs:\n" + lines("    - c%d\n"), "circle: c0 → c1 → c2"},
		"long text":     {"name: x\ncomponents:\n  a:\n    run: &x " + strings.Repeat("y", 50_000) + "\n    for_each: [" + strings.Repeat("*x,", 40_000) + "]\n", "aliases stand for more than 4 MiB of text in all"},
		"variables":     {"name: x\nenv:\n" + lines("  A%d: 1\n") + "components:\n" + lines("  c%d: {run: x, env: {B: 1}}\n"), "the components have more than 500000 variables in all"},
		"commands":      {"name: x\ncomponents: {a: {for_each: [b], run: '" + strings.Repeat("$(${each} ", n) + "'}}", "${each} cannot be used after more than 50 quotes, $(…) and the like inside one another"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Load(write(t, c.text), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %.500v\nwant %s", err, c.want)
			}
		})
	}
}

func TestSuggestionsEndWithTheErrors(t *testing.T) {
	d := &document{}
	for range maxErrors {
		d.fail(&yaml.Node{}, "", "wrong")
		if got := d.nearest("gpus", []string{"gpu"}); got != "gpu" {
			t.Fatalf("suggested %q after %d errors", got, len(d.errs))
		}
	}
	if e := d.fail(&yaml.Node{}, "", "wrong"); e == nil || len(d.errs) != maxErrors {
		t.Errorf("%v, %d errors", e, len(d.errs))
	}
	if got := d.nearest("gpus", []string{"gpu"}); got != "" {
		t.Errorf("suggested %q for an error that nobody sees", got)
	}
	many := make([]string, maxCandidates, maxCandidates+1)
	if got := nearest("gpus", append(many, "gpu")); got != "" {
		t.Errorf("%q of so many was looked at", got)
	}
}

// A chain as long as a file allows must not be walked by recursion that grows.
func TestLongChain(t *testing.T) {
	var text strings.Builder
	const n = 5000
	text.WriteString("name: x\ncomponents:\n  c0: {run: x}\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&text, "  c%d: {run: x, needs: c%d}\n", i, i-1)
	}
	app, err := Load(write(t, text.String()), nil)
	if err != nil || len(app.Components) != n {
		t.Fatal(err)
	}
	_, err = Load(write(t, text.String()), []string{fmt.Sprintf("components.c0.needs=c%d", n-1)})
	if err == nil || !strings.Contains(err.Error(), "c0 → c4999 → c4998") || !strings.Contains(err.Error(), " → c1 → c0") {
		t.Error(err)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("name: x\ncomponents:\n  a: {run: x, needs: [b]}\n  b: {run: [y], for_each: [1, 2]}\n", "components.a.retries=1")
	f.Add("name: x\ncomponents: {a: &a {run: 'x ${each}', for_each: [a], env: {<<: {A: 1}}}, b: *a}", "components.b.env={A: 2}")
	f.Add("name: x\ncomponents: {a: {run: x, resources: {gpu: 24GB.., any_of: [{cpus: ..4}]}, outputs: ['**'], files: [../x]}}", "a=")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text, set string) {
		app, err := parseApp(&App{Dir: dir, File: filepath.Join(dir, "app.yaml")}, "app.yaml", []byte(text), []string{set})
		if (app == nil) == (err == nil) {
			t.Fatalf("app %v, error %v", app, err)
		}
		if err != nil {
			var all Errors
			if !errors.As(err, &all) || len(all) == 0 {
				t.Fatalf("not a list of errors: %v", err)
			}
			return
		}
		if !isLabel(app.Name) || len(app.Components) == 0 || app.TTL < leastTTL || app.TTL > mostTTL {
			t.Fatalf("%+v", app)
		}
		for _, c := range app.Components {
			if c.Grace <= 0 || c.StartTimeout <= 0 {
				t.Fatalf("a zero would mean something else: %+v", c)
			}
			if !isLabel(c.Name) || (c.Run.Shell == "") == (len(c.Run.Args) == 0) {
				t.Fatalf("%+v", c)
			}
			for _, port := range c.Ports {
				if port < 1 || port > 65535 || port == 22 {
					t.Fatalf("ports %v", c.Ports)
				}
			}
			for _, p := range slices.Concat(c.Files, c.Outputs, c.Checkpoint) {
				if !filepath.IsLocal(p) {
					t.Fatalf("%q leaves its folder", p)
				}
			}
		}
	})
}
