// Package flow is the coordinator: it holds the graph of an app's components,
// starts calls when their needs are met, hands results and artifacts on, retries,
// cancels, and journals every step before anything acts on it.
//
// It asks an Executor for machines and for work to be done on them; it knows
// neither Terraform nor SSH.
//
// One goroutine, the loop of Coordinator.Run, owns all state. A turn of the loop
// takes what has been reported since the last one, decides, writes one change to
// the journal, and only then acts: releases machines, tells work to stop, lets
// attempts begin. Whatever may block (getting a machine, running an attempt,
// releasing a machine) has a goroutine of its own and reports back; there is none
// for a call that waits. What an attempt prints does not pass through the loop.
//
//	coordinator.go  Config, Coordinator, the loop
//	graph.go        components, calls and who needs whom
//	schedule.go     which call starts next, on which machine; idle machines
//	calls.go        what an attempt reports, and what becomes of its call
//	ending.go       failure, stop, cancel, skip
//	preempted.go    calls whose machine was taken back
//	attempt.go      the goroutine of one attempt
//	observer.go     what an attempt prints: file, lines, events
//	server.go       the control API, and client.go its other side
package flow
