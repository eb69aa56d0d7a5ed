package agent

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// workShare is the part of the time that is left to a machine which is taken
// back in which its work may still save what it has; the rest is for bringing
// that away.
const (
	workShare      = 2
	workShareOf    = 3
	preemptTimeout = 5 * time.Second // for telling one supervisor
)

// lastOrder is preempted.json: serve leaves it in an attempt's folder before it
// tells the supervisor that the machine is taken back.
type lastOrder struct {
	KillAt time.Time `json:"kill_at"` // when work that has not ended by then is killed
}

// board is where the notice is put up.
type board struct {
	posted chan struct{} // closed once there is a notice

	mu     sync.Mutex
	notice Notice
}

func newBoard() *board { return &board{posted: make(chan struct{})} }

// post puts up the notice; only the first one counts.
func (b *board) post(n Notice) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !isClosed(b.posted) {
		b.notice = n
		close(b.posted)
	}
}

// read gives the notice; it is there once posted is closed.
func (b *board) read() Notice {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.notice
	n.Left = time.Until(n.At)
	return n
}

// watchNotice waits for the cloud to take the machine back, until ctx ends. Then
// whoever asked is told, and the work is given the chance to save what it has.
func (s *server) watchNotice(ctx context.Context, cloud string) {
	complain := func(err error) { fmt.Fprintf(os.Stderr, "whether the machine is taken back is not known: %v\n", err) }
	w, err := newWatcher(cloud, complain)
	if err != nil {
		complain(err)
		return
	}
	notice, err := w.wait(ctx)
	if err != nil {
		return
	}
	s.board.post(notice)
	left := time.Until(notice.At)
	s.calls.preempt(time.Now().Add(left * workShare / workShareOf))
}

// holdButton holds the power button of a machine that is about to be taken back
// by Google, or may be while work runs on it.
func (s *server) holdButton() {
	if s.notice != noticeGCP {
		return
	}
	s.button.keep(func() bool {
		_, running := s.calls.list()
		return running > 0 || isClosed(s.board.posted)
	})
}

// getNotice answers when the cloud has said that it takes the machine back.
func (s *server) getNotice(w http.ResponseWriter, r *http.Request) error {
	if s.notice == "" {
		return notFound("no cloud tells this machine that it takes it back")
	}
	select {
	case <-s.board.posted:
		return sendJSON(w, s.board.read())
	case <-r.Context().Done():
		return r.Context().Err()
	case <-s.stopping:
		return conflict("the agent is shutting down")
	}
}

// preempt lets no new work begin, and tells the work there is to end, by killAt.
func (cs *calls) preempt(killAt time.Time) {
	cs.mu.Lock()
	cs.preempted = true
	cs.mu.Unlock()
	cs.begin.Lock() // what was about to begin has begun, or has been refused
	defer cs.begin.Unlock()
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for _, c := range cs.byID {
		if exit, _ := c.state(); exit != nil {
			continue
		}
		err := writeJSON(c.dir.preempted(), lastOrder{KillAt: killAt})
		if err == nil {
			err = c.tell(orderPreempt, preemptTimeout)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "attempt %s could not be told that the machine is taken back: %v\n", c.id, err)
		}
	}
}

// windowLeft is how long the work may take to save what it has.
func (s *supervisor) windowLeft() time.Duration {
	var o lastOrder
	if readJSON(s.dir.preempted(), &o) != nil {
		return s.grace()
	}
	return max(0, time.Until(o.KillAt))
}

// unfinished reports whether work that was told that its machine is taken back
// has ended before it was done. Code 0 alone does not tell: it also is how work
// ends that has saved what it has. What it was to leave behind does.
func (s *supervisor) unfinished(exit *Exit) bool {
	done := exit.Phase == PhaseRun && exit.Code == 0 && exit.Error == "" && len(exit.Missing) == 0 &&
		(len(s.req.Outputs) > 0 || exit.Result != nil)
	return !done
}

// saved makes the exit one of work that goes on elsewhere: with its checkpoint,
// and without what it was about to make.
func (s *supervisor) saved(exit *Exit, root *os.Root) error {
	exit.Result, exit.Missing = nil, nil
	if exit.Phase == PhaseSetup { // the checkpoint it was started with is all there is
		return nil
	}
	files, _, err := findOutputs(root, s.req.Checkpoint)
	if err != nil {
		return err
	}
	exit.Checkpoint, err = describe(files, func(name string, buf []byte) (string, int64, error) { return hashFile(root, name, buf) })
	return err
}
