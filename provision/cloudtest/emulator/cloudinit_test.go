package emulator

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"strings"
	"testing"
)

func cloudConfigText(t testing.TB, keys map[string]any) string {
	t.Helper()
	b, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	return "#cloud-config\n" + string(b) + "\n"
}

func TestUserData(t *testing.T) {
	host, other := newKey(t), newKey(t)
	timer := []string{"systemd-run", "--no-block", "--unit=levin-expiry", "--on-active=900", "systemctl", "poweroff"}
	whole := cloudConfigText(t, map[string]any{
		"bootcmd":  [][]string{timer},
		"ssh_keys": map[string]string{"ed25519_private": host.private, "ed25519_public": host.public}, "ssh_pwauth": false,
	})
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	w.Write([]byte(whole))
	w.Close()
	once := append([]string{"cloud-init-per", "instance", "expiry"}, timer...)
	for _, tt := range []struct {
		name, data string
		want       userData
	}{
		{"nothing", "", userData{}},
		{"empty", "#cloud-config\n", userData{}},
		{"whole", whole, userData{host.private, 900}},
		{"zipped", zipped.String(), userData{host.private, 900}},
		{"by hand", "#cloud-config\nbootcmd:\n  - [systemd-run, --unit=levin-expiry, --on-active=60s, systemctl, poweroff]\n", userData{"", 60}},
		{"once", cloudConfigText(t, map[string]any{"bootcmd": [][]string{once}}), userData{"", 900}},
	} {
		got, err := parseUserData([]byte(tt.data))
		if err != nil || got != tt.want {
			t.Errorf("%s: %+v, %v", tt.name, got, err)
		}
	}

	boot := func(args ...string) string { return cloudConfigText(t, map[string]any{"bootcmd": [][]string{args}}) }
	for _, tt := range []struct{ name, data, want string }{
		{"a script", "#!/bin/sh\ntrue\n", "only #cloud-config"},
		{"an unknown key", "#cloud-config\nruncmd: [[true]]\n", "runcmd"},
		{"a key twice", "#cloud-config\nbootcmd: []\nbootcmd: []\n", "already defined"},
		{"two documents", "#cloud-config\n{}\n---\n{}\n", "more than one"},
		{"a line for the shell", "#cloud-config\nbootcmd: ['poweroff']\n", "cannot unmarshal"},
		{"another file", "#cloud-config\nwrite_files: [{path: /etc/passwd, content: x}]\n", "/etc/passwd"},
		{"another command", boot("reboot"), "only systemd-run"},
		{"another unit", boot("systemd-run", "--unit=x", "--on-active=9", "systemctl", "poweroff"), "only levin-expiry"},
		{"no time", boot("systemd-run", "--unit=levin-expiry", "systemctl", "poweroff"), "without --on-active"},
		{"no number", boot("systemd-run", "--unit=levin-expiry", "--on-active=0", "systemctl", "poweroff"), "no number"},
		{"another option", boot("systemd-run", "--unit=levin-expiry", "--on-boot=9", "systemctl", "poweroff"), "--on-boot"},
		{"another deed", boot("systemd-run", "--unit=levin-expiry", "--on-active=9", "reboot"), "does not power"},
		{"other keys", cloudConfigText(t, map[string]any{"ssh_keys": map[string]string{"ed25519_private": host.private, "ed25519_public": other.public}}), "not the public half"},
		{"no public key", cloudConfigText(t, map[string]any{"ssh_keys": map[string]string{"ed25519_private": host.private}}), "ed25519_public"},
		{"no private key", cloudConfigText(t, map[string]any{"ssh_keys": map[string]string{"ed25519_public": host.public}}), "ssh_keys"},
		{"rsa", "#cloud-config\nssh_keys: {rsa_private: x}\n", "rsa_private"},
		{"too long", "#cloud-config\n#" + strings.Repeat("x", maxUserData), "limited"},
	} {
		if _, err := parseUserData([]byte(tt.data)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func FuzzUserData(f *testing.F) {
	f.Add([]byte("#cloud-config\nbootcmd: [[systemd-run, --unit=levin-expiry, --on-active=9, systemctl, poweroff]]\n"))
	f.Add([]byte("#cloud-config\nssh_keys: {ed25519_private: x, ed25519_public: y}\n"))
	f.Add([]byte{0x1f, 0x8b, 8})
	f.Fuzz(func(t *testing.T, data []byte) {
		u, err := parseUserData(data)
		if err == nil && (u.expiry < 0 || u.expiry > 1<<32) {
			t.Errorf("it expires after %v seconds", u.expiry)
		}
	})
}
