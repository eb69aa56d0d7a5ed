package aws

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/catalog"
	"github.com/levinrun/levin/provision/cloudtest/emulator"
	"github.com/levinrun/levin/terraform"
)

const hostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMk1jBkUUCJ3tTfJ2Ph0RJc6Zb1m1c7yB3kqXkU2n8sF"

func TestOffers(t *testing.T) {
	offers := func(settings configs.CloudSettings, r configs.Resources) []provision.Offer {
		t.Helper()
		all, err := newCloud(t, "", settings).Offers(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	narrowed := offers(configs.CloudSettings{Regions: []string{"us-east-2"}}, configs.Resources{})
	if len(narrowed) == 0 || slices.ContainsFunc(narrowed, func(o provision.Offer) bool { return o.Region != "us-east-2" }) {
		t.Errorf("the regions of the settings are not kept to: %d offers", len(narrowed))
	}
	v100 := configs.Resources{GPU: &configs.GPU{Models: []string{"V100", "V100-32GB"}, Count: 1}}
	if got := offers(configs.CloudSettings{}, v100); len(got) > 0 {
		t.Errorf("GPUs without drivers are offered: %v", got[0])
	}
	if got := offers(configs.CloudSettings{Image: "ami-0123456789abcdef0"}, v100); len(got) == 0 {
		t.Error("with an image of the user's own any GPU is fine")
	}
}

func TestInput(t *testing.T) {
	c := newCloud(t, "", configs.CloudSettings{Image: "ami-0123456789abcdef0"})
	o := provision.Offer{Region: "us-east-1", Zone: "use1-az4", Type: "g4dn.xlarge", Arch: "amd64", GPU: "T4", GPUs: 1, Spot: true}
	got, err := c.Input(o, configs.Resources{Disk: configs.Range{Min: 100.5}})
	if err != nil {
		t.Fatal(err)
	}
	want := terraform.MachineInput{Type: "g4dn.xlarge", Zone: "use1-az4", Disk: 101, Spot: true, Image: "ami-0123456789abcdef0",
		Extra: map[string]any{"arch": "amd64", "gpu": "T4", "gpus": 1}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("input (-want +got):\n%s", diff)
	}
	// What the offer does not say and nobody asked for is the module's to choose.
	got, err = c.Input(provision.Offer{Type: "t3.micro", Arch: "amd64"}, configs.Resources{})
	if err != nil || got.Disk != 0 || got.Zone != "" {
		t.Errorf("input is %+v, error %v", got, err)
	}
}

// The keys and tokens of the user's environment go to Terraform's process and
// into no file; nothing else of it goes anywhere.
func TestModule(t *testing.T) {
	c, err := New(Config{
		Home: t.TempDir(),
		Settings: configs.CloudSettings{Profile: "research", Network: "vpc-1", Subnets: []string{"subnet-1"}, Private: true, Role: "reader", DiskType: "gp2",
			Endpoint: "http://127.0.0.1:1/aws"},
		Env: []string{"AWS_ACCESS_KEY_ID=AKIASECRET", "AWS_SECRET_ACCESS_KEY=hush", "AWS_SESSION_TOKEN=token=with=signs", "AWS_CA_BUNDLE=/ca.pem",
			"GOOGLE_APPLICATION_CREDENTIALS=/key.json", "HOME=/home/ann", "NOAWS_X=1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	m, p, err := c.Module(t.Context(), "eu-west-1")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"AWS_ACCESS_KEY_ID": "AKIASECRET", "AWS_SECRET_ACCESS_KEY": "hush", "AWS_SESSION_TOKEN": "token=with=signs", "AWS_CA_BUNDLE": "/ca.pem"}, p.Env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if m.Name != "aws" || !m.HostKeys || !m.Firewall {
		t.Errorf("module is %+v", m)
	}
	in, err := c.Input(provision.Offer{Type: "t3.micro", Arch: "amd64"}, configs.Resources{})
	if err != nil {
		t.Fatal(err)
	}
	files, err := terraform.Root{Run: "run-x", Group: "run-x-g1", Module: m, Machines: map[string]terraform.MachineInput{"run-x-train-1": in}, SSHPublicKey: hostKey, Extra: m.Variables}.Files()
	if err != nil {
		t.Fatal(err)
	}
	main := string(files["main.tf"])
	for _, want := range []string{`"eu-west-1"`, `"research"`, "skip_requesting_account_id", `"vpc-1"`, `"subnet-1"`, `"reader"`, `"gp2"`, "max_retries", "http://127.0.0.1:1/aws"} {
		if !strings.Contains(main, want) {
			t.Errorf("the root lacks %s:\n%s", want, main)
		}
	}
	for name, file := range files {
		for _, secret := range []string{"AKIASECRET", "hush", "with=signs"} {
			if strings.Contains(string(file), secret) {
				t.Errorf("%s holds a credential", name)
			}
		}
	}
}

// The provider has every argument that is set, of the type that is set.
func TestProviderSchema(t *testing.T) {
	file, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "facts", "aws-5.31.0.schema.json"))
	if err != nil {
		t.Skip("the provider's schema is not here")
	}
	var schema struct {
		Providers map[string]struct {
			Provider struct {
				Block struct {
					Attributes map[string]struct{ Type any }
					Blocks     map[string]struct {
						Block struct{ Attributes map[string]struct{ Type any } }
					} `json:"block_types"`
				}
			}
		} `json:"provider_schemas"`
	}
	if err := json.Unmarshal(file, &schema); err != nil {
		t.Fatal(err)
	}
	block := schema.Providers["registry.terraform.io/hashicorp/aws"].Provider.Block
	m, _, err := newCloud(t, "http://127.0.0.1:1", configs.CloudSettings{Profile: "p"}).Module(t.Context(), "us-east-1")
	if err != nil {
		t.Fatal(err)
	}
	types := map[reflect.Kind]string{reflect.String: "string", reflect.Bool: "bool", reflect.Int: "number"}
	for name, value := range m.ProviderConfig["aws"] {
		if inner, ok := value.(map[string]any); ok {
			for key := range inner {
				if block.Blocks[name].Block.Attributes[key].Type != "string" {
					t.Errorf("the provider has no %s.%s", name, key)
				}
			}
			continue
		}
		if want := types[reflect.TypeOf(value).Kind()]; block.Attributes[name].Type != want {
			t.Errorf("%s is a %s, the provider's is %v", name, want, block.Attributes[name].Type)
		}
	}
}

func TestTarget(t *testing.T) {
	c := newCloud(t, "", configs.CloudSettings{Private: true, ProxyCommand: "aws ssm start-session --target %i --parameters portNumber=%p"})
	m := cluster.Machine{Name: "run-x-train-1", Address: "203.0.113.7", PrivateAddress: "10.0.0.7", Port: 22, User: "ubuntu",
		HostKey: hostKey, CloudID: "i-0abc", Region: "us-east-1", Spot: true}
	got, err := c.Target(m, "/run/key")
	if err != nil {
		t.Fatal(err)
	}
	want := cluster.Target{Address: "10.0.0.7", Port: 22, User: "ubuntu", HostKeys: []string{hostKey}, KeyFiles: []string{"/run/key"},
		ProxyCommand: "aws ssm start-session --target i-0abc --parameters portNumber=22",
		PowerOff:     true, Expiry: true, Rotate: true, Notice: "aws"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("target (-want +got):\n%s", diff)
	}
	m.Spot, m.HostKey = false, ""
	got, err = c.Target(m, "/run/key")
	if err != nil || got.Notice != "" || got.Rotate {
		t.Errorf("target is %+v, error %v", got, err)
	}
}

func TestEgress(t *testing.T) {
	c := &Cloud{}
	for _, test := range []struct {
		from, to string
		perGB    float64
	}{
		{"us-east-1", "", 0.09},
		{"us-east-1", "gcp/us-central1", 0.09},
		{"us-east-1", "aws/us-east-1", 0.01},
		{"us-east-1", "aws/eu-west-1", 0.02},
		{"ap-southeast-2", "", 0.114},
		{"ap-southeast-2", "aws/us-east-1", 0.098},
		{"sa-east-1", "", 0.15},
		{"ap-unheard-1", "", 0.126},
	} {
		if got, want := c.Egress(test.from, test.to), test.perGB*1.073741824; math.Abs(got-want) > 1e-9 {
			t.Errorf("from %s to %q a GiB costs %v, want %v", test.from, test.to, got, want)
		}
	}
}

func TestQuotaOf(t *testing.T) {
	for _, test := range []struct {
		typ  string
		spot bool
		want string
	}{
		{"t3.micro", false, "L-1216C47A"}, {"m7g.large", false, "L-1216C47A"}, {"c7i.xlarge", true, "L-34B43A08"}, {"is4gen.large", false, "L-1216C47A"},
		{"g4dn.xlarge", false, "L-DB2E81BA"}, {"g6e.xlarge", true, "L-3819A6DF"}, {"gr6.4xlarge", false, "L-DB2E81BA"}, {"vt1.3xlarge", false, "L-DB2E81BA"},
		{"p4d.24xlarge", false, "L-417A185B"}, {"p4de.24xlarge", true, "L-7212CCBC"}, {"p5.48xlarge", true, "L-C4BD4855"}, {"p5en.48xlarge", false, "L-417A185B"},
		{"p6-b200.48xlarge", true, "L-C4BD4855"}, {"x2idn.16xlarge", true, "L-E3A00192"}, {"trn1.2xlarge", false, "L-2C3B7624"}, {"inf2.xlarge", true, "L-B5D1601B"},
		{"dl1.24xlarge", false, "L-6E869C2A"}, {"hpc7a.96xlarge", true, ""}, {"mac2.metal", false, ""}, {"", false, ""}, {"p", true, "L-7212CCBC"},
	} {
		q, ok := quotaOf(test.typ, test.spot)
		if q.Code != test.want || ok != (test.want != "") {
			t.Errorf("%s (spot %v) counts against %+v, want %q", test.typ, test.spot, q, test.want)
		}
	}
}

// What is wrong is said, and how to mend it.
func TestPreflightFinds(t *testing.T) {
	offers := []provision.Offer{{Region: home, Type: "p4d.24xlarge", CPUs: 96}, {Region: home, Type: "g4dn.12xlarge", CPUs: 48}}
	for _, test := range []struct {
		name     string
		op       string
		fault    emulator.FaultKind
		settings configs.CloudSettings
		check    string
		says     string
		findings int // 0: not counted
	}{
		{"signed out", "describe", emulator.FaultExpired, configs.CloudSettings{}, "credentials", "aws sso login", 1},
		{"may not create", "create", emulator.FaultDenied, configs.CloudSettings{}, "permissions", "not allowed: ec2:RunInstances, ec2:CreateSecurityGroup", 0},
		{"may not terminate", "terminate", emulator.FaultDenied, configs.CloudSettings{}, "permissions", "not allowed: ec2:TerminateInstances;", 0},
		{"no such network", "", "", configs.CloudSettings{Network: "vpc-0000"}, "network", "there is no VPC vpc-0000", 0},
		{"no such subnets", "", "", configs.CloudSettings{Subnets: []string{"subnet-0000"}}, "network", "none of the subnets subnet-0000", 0},
		{"no quota", "", "", configs.CloudSettings{}, "quota", "P instances: 0 vCPUs, 0 in use, 96 asked for; ask for more with", 0},
		{"no such profile", "", "", configs.CloudSettings{Profile: "nobody"}, "credentials", "nobody", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newBooks(t)
			if test.op != "" {
				b.fail(test.op, test.fault, 0)
			}
			findings := newCloud(t, b.url, test.settings).Preflight(t.Context(), offers)
			if test.findings > 0 && len(findings) != test.findings {
				t.Errorf("findings are %+v", findings)
			}
			if !slices.ContainsFunc(findings, func(f provision.Finding) bool {
				return !f.OK && f.Check == test.check && strings.Contains(f.Text, test.says)
			}) {
				t.Errorf("nothing says %q: %+v", test.says, findings)
			}
		})
	}
}

// What runs already counts against the limits.
func TestPreflightCountsWhatRuns(t *testing.T) {
	b := newBooks(t)
	b.add(emulator.Thing{Kind: "aws_instance", Region: home, Type: "g4dn.12xlarge", State: emulator.Running})
	findings := newCloud(t, b.url, configs.CloudSettings{}).Preflight(t.Context(), []provision.Offer{{Region: home, Type: "g4dn.xlarge", CPUs: 4}})
	if !slices.ContainsFunc(findings, func(f provision.Finding) bool {
		return f.OK && strings.Contains(f.Text, "G and VT instances: 64 vCPUs, 48 in use, 4 asked for")
	}) {
		t.Errorf("findings are %+v", findings)
	}
}

// Without regions in the settings every region of the catalog is searched that
// the account has; what cannot be searched does not hide the rest.
func TestFindEverywhere(t *testing.T) {
	b := newBooks(t)
	m := b.running(1)
	c := newCloud(t, b.url, configs.CloudSettings{})
	cat, err := c.loadCatalog()
	if err != nil {
		t.Fatal(err)
	}
	known := len(cat.Regions())
	newer := &catalog.Catalog{Kind: kind, AsOf: time.Now(), Rows: append(slices.Clone(cat.Rows), catalog.Row{
		Type: "t3.micro", Arch: "amd64", CPUs: 2, Memory: 1, Region: "xx-switched-off-1", Price: 0.01,
	})}
	if err := newer.Save(c.cfg.CacheDir); err != nil {
		t.Fatal(err)
	}
	c.catalog = nil
	found, err := c.Find(t.Context(), "")
	if err != nil || len(found) != 1 || found[0].ID != m.CloudID {
		t.Errorf("found %+v, error %v", found, err)
	}
	if n := b.called("DescribeKeyPairs"); n != known || n < 5 {
		t.Errorf("%d regions were searched, and the account has %d of the catalog's", n, known)
	}
	c = newCloud(t, b.url, configs.CloudSettings{Regions: []string{home, "eu-west-1"}})
	b.mu.Lock()
	times := 0
	b.fault = func(op string) (emulator.FaultKind, bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		times++
		return emulator.FaultDenied, times == 4 // the first request is one region's list of instances, or the other's
	}
	b.mu.Unlock()
	found, err = c.Find(t.Context(), "")
	if cluster.KindOf(err) != cluster.Auth || !strings.Contains(err.Error(), "region ") {
		t.Errorf("error is %v", err)
	}
	if len(found) != 1 {
		t.Errorf("found %+v", found)
	}
}

// Whatever is not terminated is found, and ended by its name.
func TestEveryStateIsFound(t *testing.T) {
	for _, state := range []emulator.State{emulator.Pending, emulator.Running, emulator.Stopped, emulator.Terminating} {
		t.Run(string(state), func(t *testing.T) {
			b := newBooks(t)
			b.linger = 5
			m := b.running(1)
			b.set(m.CloudID, func(thing *emulator.Thing) { thing.State = state })
			c := newCloud(t, b.url, configs.CloudSettings{Regions: []string{home}})
			if found, err := c.Find(t.Context(), m.Run); err != nil || len(found) != 1 {
				t.Errorf("found %+v, error %v", found, err)
			}
			m.CloudID, m.CreatingAt = "", time.Now().Add(-time.Hour)
			if err := c.Stop(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			if is := b.Things(emulator.AWS, "aws_instance")[0].State; is != emulator.Terminated {
				t.Errorf("it is %s after Stop", is)
			}
		})
	}
}

// A thing that is in use for a moment longer is waited for, and what cannot be
// removed does not keep the rest.
func TestRemoveTroubles(t *testing.T) {
	b := newBooks(t)
	m := b.running(1)
	group := b.add(emulator.Thing{Kind: "aws_security_group", Region: home, Tags: tagsOf("run-x", "")})
	other := b.running(2)
	b.set(other.CloudID, func(thing *emulator.Thing) { thing.Uses = []string{group} })
	var asked atomic.Int32
	b.arrived = func(action string) {
		if action == "DeleteSecurityGroup" && asked.Add(1) == 3 {
			b.set(other.CloudID, func(thing *emulator.Thing) { thing.Uses = nil })
		}
	}
	c := newCloud(t, b.url, configs.CloudSettings{})
	err := c.Remove(t.Context(), []provision.Found{
		{Region: home, Kind: "firewall", ID: group}, {Region: home, Kind: "bucket", ID: "x"}, {Region: home, Kind: "machine", ID: m.CloudID},
	})
	if err == nil || !strings.Contains(err.Error(), `x is a "bucket"`) {
		t.Errorf("error is %v", err)
	}
	for _, thing := range b.Things(emulator.AWS, "") {
		if thing.ID != other.CloudID && thing.State != emulator.Terminated {
			t.Errorf("left is %+v", thing)
		}
	}
}

// Prices of one region do not hide the others', and a region that cannot be read
// leaves everything as it was.
func TestRefreshKeepsTheRest(t *testing.T) {
	b := newBooks(t)
	c := newCloud(t, b.url, configs.CloudSettings{Regions: []string{"us-east-2"}})
	before, err := c.loadCatalog()
	if err != nil {
		t.Fatal(err)
	}
	b.fail("describe", emulator.FaultDenied, 0)
	if err := c.Refresh(t.Context(), func(string) {}); cluster.KindOf(err) != cluster.Auth {
		t.Errorf("Refresh gave %v", err)
	}
	if _, err := os.Stat(filepath.Join(c.cfg.CacheDir, "aws.csv")); err == nil {
		t.Error("a refresh that failed wrote offers")
	}
	b.fail("never", "", 0)
	if err := c.Refresh(t.Context(), func(string) {}); err != nil {
		t.Fatal(err)
	}
	c.cfg.Settings.Regions = nil
	after, err := c.loadCatalog()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before.Regions(), after.Regions()); diff != "" {
		t.Errorf("regions (-before +after):\n%s", diff)
	}
	for _, region := range []struct {
		name string
		want float64
	}{{"us-east-2", 0.526}, {"us-west-2", known(before.Price("g4dn.xlarge", "us-west-2", false))}} {
		if p, _ := after.Price("g4dn.xlarge", region.name, false); p != region.want {
			t.Errorf("g4dn.xlarge costs %v in %s, want %v", p, region.name, region.want)
		}
	}
	for _, row := range after.Rows {
		if row.Region == "us-east-2" && row.Type == "p4de.24xlarge" && (row.GPU != "A100-80GB" || row.GPUMemory != 80 || row.GPUs != 8) ||
			row.Region == "us-east-2" && row.Type == "g6.xlarge" && (row.GPU != "L4" || row.GPUMemory != 24 || row.SpotPrice != 0.3) {
			t.Errorf("row is %+v", row)
		}
	}
}

func known(price float64, ok bool) float64 {
	if !ok {
		panic("the catalog does not have it")
	}
	return price
}

func FuzzPriceOf(f *testing.F) {
	f.Add([]byte(`{"product":{"attributes":{"instanceType":"t3.micro"}},"terms":{"OnDemand":{"a":{"priceDimensions":{"b":{"unit":"Hrs","pricePerUnit":{"USD":"0.0104"}}}}}}}`))
	f.Add([]byte(`{"terms":{"OnDemand":{"a":{"priceDimensions":{"b":{"unit":"Hrs","pricePerUnit":{"USD":"NaN"}}}}}}}`))
	f.Fuzz(func(t *testing.T, product []byte) {
		if _, price, err := priceOf(product); err == nil && !(price >= 0 && price <= math.MaxFloat64) {
			t.Errorf("%s costs %v", product, price)
		}
	})
}
