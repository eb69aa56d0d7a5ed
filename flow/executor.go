package flow

import (
	"context"
	"encoding/json"
	"time"

	"github.com/levinrun/levin/cluster"
	"github.com/levinrun/levin/configs"
)

// Executor gives the coordinator machines and runs attempts on them.
//
// Contract, held by executortest for each implementation:
//   - Acquire returns a machine that answers, or an error after which nothing of
//     it is wanted any more. ctx carries start_timeout and cancellation. number
//     counts the machines of a component from 1 and is never used twice in a run.
//   - Run returns when the attempt has exited and its artifacts are in
//     Work.ArtifactDir, or with an error when the attempt could not be carried to
//     its end (machine lost, ctx ended: then the work has been told to stop). A
//     non-zero exit is an Outcome, not an error. A machine of which Run gave an
//     error is not used again, nor is one that was preempted. A machine of one
//     component runs work of another one where Config.Reuse allows it.
//   - A machine that the cloud takes back gives an Outcome that is Preempted, or,
//     when it was gone before that could be had, an error of kind
//     cluster.Preempted; Acquire gives that error, too.
//   - Release asks for the machine to be stopped and returns at once. Release of
//     a machine twice is one stop.
//   - All methods are safe for concurrent use; one machine runs one attempt at a
//     time. A machine that was not acquired, or was released, runs nothing.
type Executor interface {
	Acquire(ctx context.Context, c configs.Component, number int) (machine string, err error)
	Run(ctx context.Context, machine string, w Work, o Observer) (Outcome, error)
	Release(machine string, reason string)
}

// Work is one attempt, ready to go.
type Work struct {
	ID          string // the attempt: <call>-a<number>
	Component   configs.Component
	Command     configs.Command   // expressions already turned into variables
	Env         map[string]string // complete: the component's, LEVIN_*, and the variables of expressions
	Inputs      []Input           // artifacts of the components it needs
	ArtifactDir string            // absolute, local: where outputs go; made by the executor when there are any
	// CheckpointDir is the local folder that holds what an earlier attempt of the call
	// left behind when its machine was taken back: shipped into the work folder before
	// the start when it is there, and replaced when the machine is taken back again.
	// "" for a component without checkpoint.
	CheckpointDir string
}

// Input is the artifacts of one upstream call.
type Input struct {
	At  string // "inputs/<component>", or "inputs/<component>/<item or index>" for one of for_each
	Dir string // absolute, local
}

// Outcome is how an attempt exited.
type Outcome struct {
	ExitCode  int
	ExitedAt  time.Time // the machine's clock
	TimedOut  bool
	Setup     bool   // it was setup that ended, not run
	Error     string // the machine's words when it could not start or collect
	Result    json.RawMessage
	Artifacts []cluster.Artifact
	Missing   []string // outputs that matched nothing
	// Preempted says that the cloud took the machine back before the work was done.
	// What the checkpoint matched is in Work.CheckpointDir, as far as there was time.
	Preempted bool
}

// Observer hears of an attempt's progress; its methods return quickly and may be
// called from several goroutines, but log chunks come in order. What comes after
// Run has returned is not heard.
type Observer interface {
	Shipped(bytes int64)
	Running()
	Log(offset int64, p []byte)
	Exited(code int, at time.Time) // before artifacts are fetched
	// Preempted: the cloud has announced that it takes the machine back at a time.
	Preempted(at time.Time, words string)
}
