//go:build !embed_agent

package agentbin

// embedded gives nothing: this build contains no agents.
func (f *Finder) embedded(string, string) (string, error) { return "", nil }
