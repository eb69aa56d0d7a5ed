// Package agent is the remote side of Levin: the small static program that runs
// on a machine, supervises work there, and answers the controller in plain HTTP
// over an SSH channel. It also holds the protocol that both sides speak.
//
// Three processes share the job, and none of them depends on a connection:
//
//	start      looks whether an agent serves the machine, and starts one if not
//	serve      the agent: answers on a unix socket, holds the lease
//	supervise  one for each attempt: owns the work's processes, log and exit
//
// serve changes something of the whole machine only when it is asked to:
// its host key, and when it powers itself off (see root.go). serve also watches
// whether the cloud takes the machine back, and then has the work save what it has.
//
// connect joins the controller's SSH channel to the socket. Everything that has
// to survive the death of serve is in files (see layout and callDir), and who is
// alive is told by locks, so that serve can be killed at any moment and the next
// one takes over. While both live, supervise tells serve through a fifo that
// something has happened; nothing is ever polled.
//
// The package may import only the standard library, cluster, x/sys and
// compression, and must stay small: 8 MB, 3 MB compressed, which a test checks.
package agent
