package emulator

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// The account and the project of the emulated clouds.
const (
	account       = "000000000000"
	project       = "levin-emulated"
	projectNumber = "123456789012"
)

// Project is the GCP project that there is.
const Project = project

// Env is the environment for a levin process that is to use this cloud:
// TF_REATTACH_PROVIDERS, and credentials that are worth nothing elsewhere.
func (e *Emulator) Env() []string { return slices.Clone(e.env) }

// makeEnv prepares what Env gives. No variable of it leads anywhere but here, also
// on a computer that has credentials of real clouds.
func (e *Emulator) makeEnv() error {
	type address struct{ Network, String string }
	type entry struct {
		Protocol        string
		ProtocolVersion int
		Pid             int
		Test            bool
		Addr            address
	}
	entries := map[string]entry{}
	for cloud, server := range e.providers {
		r := server.Reattach()
		entries[source(cloud)] = entry{r.Protocol, r.ProtocolVersion, r.PID, true, address{r.Network, r.Address}}
	}
	reattach, err := json.Marshal(entries)
	if err != nil {
		return err
	}
	credentials := filepath.Join(e.cfg.Dir, "google.json")
	if err := e.writeServiceAccount(credentials); err != nil {
		return err
	}
	none := filepath.Join(e.cfg.Dir, "none")
	e.env = []string{
		"TF_REATTACH_PROVIDERS=" + string(reattach),
		"AWS_ACCESS_KEY_ID=AKIAEMULATEDEMULATED",
		"AWS_SECRET_ACCESS_KEY=worth-nothing",
		"AWS_SESSION_TOKEN=",
		"AWS_PROFILE=",
		"AWS_REGION=us-east-1",
		"AWS_CONFIG_FILE=" + none,
		"AWS_SHARED_CREDENTIALS_FILE=" + none,
		"AWS_EC2_METADATA_DISABLED=true",
		"AWS_ENDPOINT_URL=" + e.Endpoint(AWS),
		"GOOGLE_APPLICATION_CREDENTIALS=" + credentials,
		"GOOGLE_CLOUD_PROJECT=" + project,
		"GOOGLE_PROJECT=" + project,
		"CLOUDSDK_CORE_PROJECT=" + project,
		"CLOUDSDK_CONFIG=" + none,
		"GCE_METADATA_HOST=127.0.0.1:1", // this is no instance
		"NO_GCE_CHECK=true",
	}
	return nil
}

// serviceKey is worth nothing, so one is enough for all clouds of a process.
var serviceKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// writeServiceAccount writes a key of a Google service account whose tokens come
// from here.
func (e *Emulator) writeServiceAccount(file string) error {
	key, err := serviceKey()
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	b, err := json.Marshal(map[string]string{
		"type":           "service_account",
		"project_id":     project,
		"private_key_id": "emulated",
		"private_key":    string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email":   "levin@" + project + ".iam.gserviceaccount.com",
		"client_id":      "1",
		"token_uri":      e.url + "/token",
	})
	if err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}

// serveToken gives a service account a token. With expired credentials it does
// not.
func (e *Emulator) serveToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if _, ok := e.check(r.Context(), request{cloud: GCP, op: "token", only: FaultExpired}); ok {
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprint(w, `{"error":"invalid_grant","error_description":"Token has been expired or revoked."}`)
		return
	}
	fmt.Fprint(w, `{"access_token":"emulated","token_type":"Bearer","expires_in":3600}`)
}
