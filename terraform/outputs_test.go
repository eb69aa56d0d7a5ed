package terraform_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/terraform"
)

func TestDecodeMachines(t *testing.T) {
	for _, c := range []struct {
		name, raw, wantErr string
		want               map[string]terraform.MachineOutput
	}{
		{name: "all", raw: `{"a":{"address":"1.2.3.4","private_address":"10.0.0.1","port":22,"user":"u","host_key":"k","cloud_id":"i"}}`,
			want: map[string]terraform.MachineOutput{"a": {Address: "1.2.3.4", PrivateAddress: "10.0.0.1", Port: 22, User: "u", HostKey: "k", CloudID: "i"}}},
		{name: "nulls", raw: `{"a":{"address":"x","port":null,"host_key":null},"b":null}`,
			want: map[string]terraform.MachineOutput{"a": {Address: "x"}}},
		{name: "null", raw: `null`, want: map[string]terraform.MachineOutput{}},
		{name: "a misspelt attribute", raw: `{"a":{"hostkey":"k"}}`, wantErr: `machine "a"`},
		{name: "a list", raw: `[]`, wantErr: "not understood"},
		{name: "a port as text", raw: `{"a":{"port":"22"}}`, wantErr: `machine "a"`},
		{name: "a port that is none", raw: `{"a":{"port":65536}}`, wantErr: "65536"},
		{name: "half a port", raw: `{"a":{"port":22.5}}`, wantErr: `machine "a"`},
		{name: "two values", raw: `{} {}`, wantErr: "more than one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := terraform.DecodeMachines(terraform.Outputs{"machines": json.RawMessage(c.raw)})
			if c.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), c.wantErr) || cluster.KindOf(err) != cluster.BadRequest {
					t.Errorf("error: %v", err)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
				t.Errorf("%v\n%s", err, diff)
			}
		})
	}
	if got, err := terraform.DecodeMachines(nil); len(got) != 0 || err != nil {
		t.Errorf("no output: %v %v", got, err)
	}
}

func FuzzDecodeMachines(f *testing.F) {
	f.Add([]byte(`{"a":{"address":"127.0.0.1","port":22,"user":"u","host_key":"k","cloud_id":"i","private_address":null}}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"a":null}`))
	f.Add([]byte(`{"a":{"port":1e9}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		machines, err := terraform.DecodeMachines(terraform.Outputs{"machines": json.RawMessage(raw)})
		if (err == nil) == (machines == nil) {
			t.Errorf("machines %v, error %v", machines, err)
		}
		for name, m := range machines {
			if m.Port < 0 || m.Port > 65535 {
				t.Errorf("%s: port %d", name, m.Port)
			}
		}
	})
}
