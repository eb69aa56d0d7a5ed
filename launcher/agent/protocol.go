package agent

import (
	"encoding/json"
	"time"

	"github.com/levinrun/levin/cluster"
)

// ProtocolVersion changes when either side could misread the other. The agent
// is shipped by digest with every release, so the two always match; the number
// is checked all the same.
const ProtocolVersion = 2

// The command line of the agent, as the controller uses it over SSH. The binary
// lies at <home>/bin/<hex of its sha256>, where <home> is ~/.levin-agent unless
// the target says otherwise; the agent finds <home> from where it lies, and
// --home overrides that.
//
//	levin-agent start --machine NAME --lease 10m [--power-off] [--notice aws|gcp]
//	    With --notice it asks that cloud's metadata service whether the machine is
//	    taken back. Prints Info as JSON and exits 0. An agent that already serves the machine
//	    answers and has its lease renewed; otherwise one is started, detached.
//	levin-agent connect --machine NAME
//	    Joins stdin and stdout to the agent: what travels is HTTP/1.1. Exits with
//	    ExitNoAgent when no agent serves the machine.
//	levin-agent digest | version
//	    Prints "sha256:<hex>" of the binary, or its version.
//
// ExitNoAgent is the exit code of connect when nothing answers at the socket.
const ExitNoAgent = 3

// The agent's API. Every body is JSON unless said otherwise. Errors are an Error
// with its 4xx or 5xx status. Request bodies may come with Content-Encoding: zstd
// and answers are compressed when the request has Accept-Encoding: zstd, where
// zstd is mentioned below.
//
//	GET  /v1/info                              → Info
//	POST /v1/lease           LeaseRequest      → 204     renews the lease
//	POST /v1/sync/{folder}/same SameRequest    → SameAnswer  asked before a sync, which is needed only when the answer is no
//	POST /v1/sync            SyncRequest       → SyncNeed (zstd both ways)
//	POST /v1/sync/{folder}/files               → 204     body: a stream of frames, see FileFrame; several may be sent at once
//	POST /v1/sync/{folder}/commit              → SyncDone  all files verified; extraneous ones removed
//	POST /v1/calls           StartRequest      → Status  starting the same ID again is not an error
//	GET  /v1/calls/{id}                        → Status
//	GET  /v1/calls/{id}/log?offset=N           → bytes   from offset on, follows until the call has exited
//	GET  /v1/calls/{id}/wait                   → Status  answers when the call has exited
//	GET  /v1/calls/{id}/wait?after=setup       → Status  answers when the call is past its setup: it runs, or has exited
//	POST /v1/calls/{id}/stop                   → 204     asks for TERM, grace, KILL of the whole process tree; wait tells when it is done
//	GET  /v1/calls/{id}/outputs                → []cluster.Artifact  (after exit: complete)
//	GET  /v1/calls/{id}/outputs/{path...}?offset=N → bytes  the file's content from offset on (zstd when asked)
//	POST /v1/calls/{id}/follow FollowRequest   → pieces of outputs as they grow, each with a FollowHeader; until the call has exited (zstd always)
//	GET  /v1/notice                            → Notice  answers when the cloud has said that it takes the machine back
//	POST /v1/hostkey                           → HostKey  prepares a host key; asked again, the same one
//	POST /v1/hostkey/use                       → 204     the SSH server shows it from now on, instead of the one before
//	POST /v1/expiry          ExpiryRequest     → 204     moves the time at which the machine powers itself off
//	POST /v1/shutdown                          → 204     ends all work, removes the agent's folder, exits
//
// IDs and folder names are DNS labels; anything else is a 400. A sync replaces
// the one before it that was not committed; nothing in the work folder changes
// before commit. Once the cloud has said that it takes the machine back nothing is
// synced or started any more: KindPreempted. A folder whose work is running cannot be committed, started in
// or asked whether it is the same: 409.

// The kinds of an Error, for code. Anything that is neither is the agent's own
// trouble and may pass: "internal".
const (
	KindBadRequest = "bad request" // the request makes no sense; sending it again will not help
	KindNotFound   = "not found"   // no such call, folder or output
	KindConflict   = "conflict"    // not now: the folder is busy, or the sync has to be asked again
	KindPreempted  = "preempted"   // not any more: the cloud takes the machine back
	KindUntrusted  = "untrusted"   // content that is not what its digest says
	KindDiskFull   = "disk full"   // the machine has no room left; what had been written is gone
	KindInternal   = "internal"
)

// Error is the body of every answer that is not a success. It is an error.
type Error struct {
	Message string `json:"error"` // one sentence for people
	Kind    string `json:"kind"`
	Status  int    `json:"-"` // HTTP status
}

// Error gives the message.
func (e *Error) Error() string { return e.Message }

// Info says who answers.
type Info struct {
	Protocol int       `json:"protocol"`
	Digest   string    `json:"digest"` // "sha256:<hex>" of the agent's own binary
	OS       string    `json:"os"`
	Arch     string    `json:"arch"`
	PID      int       `json:"pid"`
	Started  time.Time `json:"started"`
	Now      time.Time `json:"now"` // the machine's clock
	Calls    []string  `json:"calls,omitempty"`
}

// LeaseRequest renews the controller's promise that the machine is still wanted.
// When it runs out and no work runs, the machine ends itself.
type LeaseRequest struct {
	TTL time.Duration `json:"ttl"` // nanoseconds; > 0
}

// SameRequest asks whether a work folder holds exactly the manifest with this
// digest, so that an unchanged manifest need not travel.
type SameRequest struct {
	Digest string `json:"digest"` // see ManifestDigest
}

// SameAnswer says so. Same is as good as the commit of that manifest: every
// shipped file, link and folder was looked at, none was changed, and none is
// there that was shipped before and is not in the manifest. Otherwise the folder
// has to be synced, and may still turn out to lack nothing.
type SameAnswer struct {
	Same bool `json:"same"`
}

// SyncRequest lists everything that a work folder must hold.
type SyncRequest struct {
	Folder  string  `json:"folder"`
	Entries []Entry `json:"entries"` // in any order, each path once
}

// Entry is one file, link or empty folder of a work folder. Folders that hold
// something need no entry.
type Entry struct {
	Path   string `json:"path"` // slash-separated, relative, clean, never through "..", never through a link
	Mode   uint32 `json:"mode"` // permission bits
	Size   int64  `json:"size,omitempty"`
	Digest string `json:"digest,omitempty"` // "sha256:<hex>"; empty for links and folders
	Link   string `json:"link,omitempty"`   // target of a symbolic link; relative, stays inside the folder
	Dir    bool   `json:"dir,omitempty"`
}

// SyncNeed says which entries the machine lacks, by index, and from which byte
// on (a transfer that broke goes on where it stopped). Content that several
// entries share is asked for once.
type SyncNeed struct {
	Need []Need `json:"need"`
}

// Need is one file that is missing, or missing from Offset on.
type Need struct {
	Index  int   `json:"i"` // in SyncRequest.Entries
	Offset int64 `json:"o,omitempty"`
}

// FileFrame heads the content of one file in an upload: Size-Offset raw bytes
// follow it, from Offset on. On the wire a frame is the length of the header (4
// bytes, big endian), the header as JSON, and the raw bytes; a whole stream of
// frames is zstd-compressed.
type FileFrame struct {
	Digest string `json:"digest"`           // "sha256:<hex>" of the whole file
	Size   int64  `json:"size"`             // bytes of the whole file
	Offset int64  `json:"offset,omitempty"` // the Offset of its Need
}

// SyncDone is the answer once the folder is exactly what was asked for.
type SyncDone struct {
	Digest string `json:"digest"` // of the whole folder's entries, see ManifestDigest
}

// StartRequest starts one attempt of a call.
//
// The work sees the agent's own environment (an allow-list of it), Env, Secrets,
// and LEVIN_RESULT: the absolute path of a file for its JSON result, at most
// 1 MiB. LEVIN_ATTEMPT is ID unless Env says otherwise.
type StartRequest struct {
	ID     string `json:"id"`     // the attempt: <call>-a<number>
	Folder string `json:"folder"` // the work folder, as synced

	Setup    string            `json:"setup,omitempty"`     // shell line, run once for SetupKey in this folder
	SetupKey string            `json:"setup_key,omitempty"` // digest of the setup line and the shipped content; "" runs setup each time
	Shell    string            `json:"shell,omitempty"`     // shell line the user wrote; values come as variables, never spliced
	Args     []string          `json:"args,omitempty"`      // or an argument list, no shell
	Env      []string          `json:"env,omitempty"`       // KEY=VALUE
	Secrets  map[string]string `json:"secrets,omitempty"`   // also in the environment; never written to disk, masked in logs when 4 bytes or longer
	Outputs  []string          `json:"outputs,omitempty"`   // paths or globs; what they match and was not shipped is removed before the start; collected after the exit
	// Checkpoint are paths or globs like Outputs. They are collected instead of the
	// outputs when the machine is taken back before the work is done.
	Checkpoint []string      `json:"checkpoint,omitempty"`
	Timeout    time.Duration `json:"timeout,omitempty"` // of setup and run together; 0 is none
	Grace      time.Duration `json:"grace,omitempty"`   // between TERM and KILL; 0 is DefaultGrace
}

// DefaultGrace is how long work that was told to stop may take to do so when
// StartRequest does not say.
const DefaultGrace = 10 * time.Second

// Phase is where an attempt stands on its machine.
type Phase string

// The phases of an attempt on its machine, in order.
const (
	PhaseSetup  Phase = "setup"
	PhaseRun    Phase = "run"
	PhaseExited Phase = "exited"
)

// Status is an attempt as its machine sees it.
type Status struct {
	ID        string    `json:"id"`
	Phase     Phase     `json:"phase"`
	StartedAt time.Time `json:"started_at"`
	Exit      *Exit     `json:"exit,omitempty"`
	LogSize   int64     `json:"log_size"`
}

// Exit is how an attempt ended.
type Exit struct {
	Code     int       `json:"code"`  // 128+n when ended by signal n
	At       time.Time `json:"at"`    // the machine's clock, when the main process ended
	Phase    Phase     `json:"phase"` // setup or run: what was running
	TimedOut bool      `json:"timed_out,omitempty"`
	Stopped  bool      `json:"stopped,omitempty"` // because it was asked to
	// Preempted says that the work was ended because the cloud takes the machine back,
	// before it was done: work that exits with code 0 all the same, and has left a
	// result or all of its outputs, was done.
	Preempted  bool               `json:"preempted,omitempty"`
	Error      string             `json:"error,omitempty"`      // could not be started, disk full, result not JSON, …
	Result     json.RawMessage    `json:"result,omitempty"`     // content of $LEVIN_RESULT
	Artifacts  []cluster.Artifact `json:"artifacts,omitempty"`  // what the outputs matched, sorted by path
	Missing    []string           `json:"missing,omitempty"`    // outputs that matched nothing
	Checkpoint []cluster.Artifact `json:"checkpoint,omitempty"` // of Preempted: what the checkpoint matched, sorted by path; content as of outputs
}
