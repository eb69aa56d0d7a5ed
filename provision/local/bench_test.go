package local

import (
	"cmp"
	"context"
	"os"
	"strconv"
	"testing"
)

// BenchmarkTerraform measures apply and destroy of many machines, Terraform's own
// time included. LEVIN_BENCH_AGENT names the agent whose machines are used; without
// it that is the test binary, which is several times its size.
func BenchmarkTerraform(b *testing.B) {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	agent := cmp.Or(os.Getenv("LEVIN_BENCH_AGENT"), self)
	for _, n := range []int{1, 100} {
		c := newCloud(b, b.TempDir())
		c.cfg.Agent = func(context.Context) (string, error) { return agent, nil }
		f := newTF(b, c)
		_, key := newKey(b)
		f.root(n, key)
		b.Run("apply/"+strconv.Itoa(n), func(b *testing.B) {
			for b.Loop() {
				f.apply()
				b.StopTimer()
				f.destroy()
				b.StartTimer()
			}
		})
		b.Run("destroy/"+strconv.Itoa(n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				f.apply()
				b.StartTimer()
				f.destroy()
			}
		})
	}
}
