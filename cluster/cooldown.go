package cluster

import "time"

// Cooldown remembers that offers could not be had, so that for a while they are
// tried after the others, by every run. An empty field stands for any value.
type Cooldown struct {
	Cloud  string `json:"cloud"`
	Region string `json:"region,omitempty"`
	Zone   string `json:"zone,omitempty"`
	Type   string `json:"type,omitempty"`
	Spot   bool   `json:"spot"`

	Kind  FailureKind `json:"kind"`            // capacity, quota or price
	Words string      `json:"words,omitempty"` // the cloud's own
	Until time.Time   `json:"until"`
}
