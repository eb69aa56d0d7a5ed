// Package launcher reaches machines by SSH: it dials with pinned host keys, puts
// the agent there, ships folders by digest, starts work, follows its log, fetches
// what came out, and stops it. A Session hides broken connections.
//
// A Session stands on these layers, each of which knows only the one below:
//
//	Session    what a caller asks for; asks again when a connection broke
//	link       one SSH connection with an agent that answers behind it
//	execConn   one SSH channel that runs one command, as a net.Conn
//	handshake  host key, authentication
//	Dialer     the byte stream: TCP, proxy jump, proxy command
package launcher
