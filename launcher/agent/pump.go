package agent

import (
	"errors"
	"os"
	"time"
)

// pump moves the work's output through the redactor into the log. Both outputs
// of the work are one pipe, so that lines come in the order they were written.
type pump struct {
	in   *os.File // what the work writes to
	out  *os.File
	log  *os.File
	grew func()
	done chan struct{}
	err  error // of the log; set before done is closed
}

func openPump(path string, secrets map[string]string, grew func()) (*pump, error) {
	log, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		log.Close()
		return nil, err
	}
	p := &pump{in: in, out: out, log: log, grew: grew, done: make(chan struct{})}
	go p.run(newRedactor(p, secrets))
	return p, nil
}

func (p *pump) run(r *redactor) {
	defer close(p.done)
	buf := make([]byte, 64<<10)
	for {
		n, err := p.out.Read(buf)
		if n > 0 {
			_, _ = r.Write(buf[:n]) // Write keeps the error
		}
		if err != nil {
			_ = r.Flush()
			return
		}
	}
}

// Write takes what the redactor gives. After the first error (the disk is full)
// nothing more is kept, but the work is not made to wait.
func (p *pump) Write(b []byte) (int, error) {
	if p.err == nil {
		_, p.err = p.log.Write(b)
		p.grew()
	}
	return len(b), nil
}

// finish waits until everything that the work has written is in the log. A
// process that holds the pipe and that nobody could find does not delay it for
// long.
func (p *pump) finish() error {
	p.in.Close()
	_ = p.out.SetReadDeadline(time.Now().Add(drainLimit))
	<-p.done
	p.out.Close()
	return errors.Join(p.err, p.log.Close())
}
