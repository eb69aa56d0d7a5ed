package module_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
	"github.com/levinrun/levin/provision"
	"github.com/levinrun/levin/provision/cloudtest"
	"github.com/levinrun/levin/provision/module"
	"github.com/levinrun/levin/terraform"
)

const example = "../../examples/own-cloud"

// yard is the cloud of the worked example.
func yard(t *testing.T) provision.Cloud {
	t.Helper()
	settings, err := configs.LoadSettings(configs.SettingsInput{Env: func(name string) (string, bool) {
		v := map[string]string{"HOME": t.TempDir(), "LEVIN_CONFIG": filepath.Join(example, "settings.yaml")}[name]
		return v, v != ""
	}, Dir: workingDir(t)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := module.New(module.Config{
		Name: "yard", Settings: settings.Clouds["yard"], Env: os.LookupEnv,
		Home: t.TempDir(), User: "me", KnownHosts: []string{},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func workingDir(t *testing.T) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// The worked example of docs/clouds.md is held to the contract of clouds, with a
// real Terraform and real SSH servers.
func TestConformance(t *testing.T) {
	cfg := cloudtest.Config{
		New: yard,
		Requests: []configs.Resources{
			{Machine: "barn"}, {CPUs: configs.Range{Min: 4}}, {Memory: configs.Range{Max: 4}}, {Arch: "amd64", MaxPrice: 0.1},
		},
	}
	if why := noSSHD(); why != "" {
		t.Log("no machine is created: " + why)
	} else {
		cfg.Runner, cfg.PubKey, cfg.Alive = runner(t), publicKey(t), listens
	}
	cloudtest.Run(t, cfg)
}

// noSSHD says why the machines of the example cannot be made here.
func noSSHD() string {
	if runtime.GOOS != "linux" {
		return "the machines of the example are made on Linux"
	}
	for _, program := range []string{"/usr/sbin/sshd", "ssh-keygen", "setsid", "timeout"} {
		if _, err := exec.LookPath(program); err != nil {
			return err.Error() + " (Debian: openssh-server)"
		}
	}
	return ""
}

func listens(m cluster.Machine) bool {
	c, err := net.Dial("tcp", net.JoinHostPort(m.Address, strconv.Itoa(m.Port)))
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func runner(t *testing.T) terraform.Runner {
	t.Helper()
	cache := t.TempDir()
	binary, err := terraform.Find(t.Context(), terraform.FindOptions{CacheDir: cache, Env: os.Environ()})
	if err != nil {
		t.Skipf("no Terraform: %v", err)
	}
	r, err := terraform.NewRunner(terraform.Config{Binary: binary, CacheDir: cache, TempDir: t.TempDir(), Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func publicKey(t *testing.T) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(key))
}

func TestExampleIsFormatted(t *testing.T) {
	binary, err := terraform.Find(t.Context(), terraform.FindOptions{CacheDir: t.TempDir(), Env: os.Environ()})
	if err != nil {
		t.Skipf("no Terraform: %v", err)
	}
	if out, err := exec.CommandContext(t.Context(), binary.Path, "fmt", "-check", "-diff", filepath.Join(example, "tf")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
