package memory_test

import (
	"testing"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/cluster/memory"
	"github.com/levinrun/levin/cluster/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) cluster.Store { return memory.New() })
}

func BenchmarkCommit(b *testing.B) {
	storetest.BenchmarkCommit(b, func(*testing.B) cluster.Store { return memory.New() })
}
