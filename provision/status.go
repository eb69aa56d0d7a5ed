package provision

import (
	"context"
	"fmt"
)

// Status asks the cloud how a machine of this run is doing, and in whose words.
// A cloud that cannot say gives StatusUnknown.
func (p *Provisioner) Status(ctx context.Context, name string) (Status, string, error) {
	p.mu.Lock()
	m := p.machines[name]
	if m == nil {
		p.mu.Unlock()
		return StatusUnknown, "", fmt.Errorf("run %s has no machine %s", p.cfg.Run, name)
	}
	row := m.row.Clone()
	p.mu.Unlock()
	inspector, ok := p.clouds[row.Cloud].(Inspector)
	if !ok {
		return StatusUnknown, "", nil
	}
	return inspector.Status(ctx, row)
}
