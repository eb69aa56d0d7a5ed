package flow

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/levinrun/levin/cluster"
)

const (
	// guardMargin is what an attempt may take beyond its timeout and grace before
	// the coordinator gives its machine up: ending the work in time is the
	// machine's job, and this is for machines that do not do it.
	guardMargin = time.Minute

	tailLines    = 20  // kept of each attempt, for the report of a failure
	maxTailBytes = 400 // of each of these lines
)

// observer hears what an executor has to tell about one attempt. What is printed
// goes straight to the file and to listeners; the rest goes to the loop.
type observer struct {
	c *Coordinator
	a *attempt

	mu    sync.Mutex
	ended bool
	log   logFile
	lines splitter
	tail  []string
	guard *time.Timer // runs while the work does, if it has a timeout
}

func newObserver(c *Coordinator, a *attempt) *observer { return &observer{c: c, a: a} }

var _ Observer = (*observer)(nil)

// Shipped starts the clock of the work's timeout.
func (o *observer) Shipped(bytes int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return
	}
	if spec := o.a.call.comp.spec; spec.Timeout > 0 && o.guard == nil {
		late := &cluster.Failure{
			Kind: cluster.WorkFailed,
			What: fmt.Sprintf("timed out after %s, and its machine has not ended it", short(spec.Timeout)),
		}
		o.guard = time.AfterFunc(spec.Timeout+spec.Grace+guardMargin, func() { o.a.cancel(late) })
	}
	o.c.inbox.post(func() { o.c.shipped(o.a, bytes) })
}

// Running is the moment the work's process was there.
func (o *observer) Running() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ended {
		o.c.inbox.post(func() { o.c.running(o.a) })
	}
}

// Exited stops the clock: fetching artifacts is not the work's time.
func (o *observer) Exited(code int, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return
	}
	o.stopGuard()
	o.c.inbox.post(func() { o.c.exited(o.a, code, at) })
}

// Preempted tells that the machine is about to be taken back.
func (o *observer) Preempted(at time.Time, words string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return
	}
	o.c.inbox.post(func() {
		if o.a.notice != "" {
			return
		}
		o.a.notice = words
		e := o.c.tell(cluster.EventMachinePreempted, o.a.call)
		e.Message = fmt.Sprintf("the cloud takes it back at %s: %s", at.UTC().Format(time.TimeOnly), words)
	})
}

// Log takes the bytes that were printed from offset on. Bytes that have come
// before are passed over.
func (o *observer) Log(offset int64, p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ended {
		return
	}
	known := o.lines.next
	if offset > known {
		// The executor promises that this does not happen. The file gets a hole of
		// zeros, so that what follows stands where it belongs.
		o.warn(fmt.Sprintf("%d bytes of its log have not come", offset-known))
		o.lines.flush(o.line)
		o.lines.next = offset
	} else if offset < known {
		if int64(len(p)) <= known-offset {
			return
		}
		p = p[known-offset:]
	}
	if err := o.log.writeAt(LogPath(o.c.cfg.Dir, o.a.call.row.ID, o.a.number), p, o.lines.next); err != nil {
		o.warn("its log could not be written to disk: " + err.Error())
	}
	o.lines.write(p, o.line)
}

// line tells listeners of one line.
func (o *observer) line(offset int64, text []byte) {
	row := &o.a.call.row // of which only what never changes is read here
	line := string(text)
	o.c.cfg.Journal.Publish(cluster.Event{
		Time: o.c.now().UTC(), Run: row.Run, Type: cluster.EventCallLog,
		Component: row.Component, Call: row.ID, Each: row.Each, Attempt: o.a.number,
		Line: line, Offset: offset,
	})
	if len(o.tail) == tailLines {
		o.tail = append(o.tail[:0], o.tail[1:]...)
	}
	if len(line) > maxTailBytes {
		line = line[:maxTailBytes] + "…"
	}
	o.tail = append(o.tail, line)
}

// warn tells of trouble that does not end the attempt.
func (o *observer) warn(message string) {
	o.c.inbox.post(func() {
		e := o.c.tell(cluster.EventWarning, o.a.call)
		e.Message = message
	})
}

// end is called when the executor has no more to say: the last line may have no
// newline.
func (o *observer) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.stopGuard()
	o.lines.flush(o.line)
}

func (o *observer) stopGuard() {
	if o.guard != nil {
		o.guard.Stop()
	}
}

// close closes the file. It is not part of end because it may take its time.
func (o *observer) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := o.log.close(); err != nil {
		o.warn("its log could not be written to disk: " + err.Error())
	}
}

func (o *observer) lastLines() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tail
}

// logFile is made by the first byte. After the first error it takes no more: a
// disk that is full must not end work that goes well.
type logFile struct {
	file   *os.File
	failed bool
}

func (l *logFile) writeAt(path string, p []byte, offset int64) error {
	if l.failed || len(p) == 0 {
		return nil
	}
	err := l.open(path)
	if err == nil {
		_, err = l.file.WriteAt(p, offset)
	}
	l.failed = err != nil
	return err
}

func (l *logFile) open(path string) error {
	if l.file != nil {
		return nil
	}
	const flags = os.O_CREATE | os.O_WRONLY
	f, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		f, err = os.OpenFile(path, flags, 0o600)
	}
	l.file = f
	return err
}

func (l *logFile) close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
}
